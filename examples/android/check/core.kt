// As much of androidx.core as is used, by its reference.
package androidx.core.app

import android.app.Notification
import android.app.PendingIntent
import android.content.Context

object NotificationCompat {
    class Builder(private val context: Context, private val channel: String) {
        fun setSmallIcon(icon: Int) = apply { icon + 1 }
        fun setContentTitle(title: CharSequence?) = apply { title?.length }
        fun setGroup(group: String?) = apply { group?.length }
        fun setOnlyAlertOnce(once: Boolean) = apply { !once }
        fun setAutoCancel(cancel: Boolean) = apply { !cancel }
        fun setContentIntent(intent: PendingIntent?) = apply { intent?.hashCode() }
        fun setDeleteIntent(intent: PendingIntent?) = apply { intent?.hashCode() }
        fun build(): Notification = Notification.Builder(context, channel).build()
    }
}

class NotificationManagerCompat {
    fun notify(tag: String?, id: Int, notification: Notification) = (tag + id + notification).let { }
    fun areNotificationsEnabled() = true

    companion object {
        @JvmStatic fun from(context: Context) = NotificationManagerCompat().also { context.packageName }
    }
}
