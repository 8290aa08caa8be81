package com.contoso.mail

import android.app.NotificationChannel
import android.app.NotificationManager
import android.app.PendingIntent
import android.content.Context
import android.content.Intent
import androidx.core.app.NotificationCompat
import androidx.core.app.NotificationManagerCompat
import androidx.work.BackoffPolicy
import androidx.work.Constraints
import androidx.work.Data
import androidx.work.NetworkType
import androidx.work.OneTimeWorkRequest
import androidx.work.OutOfQuotaPolicy
import androidx.work.WorkManager
import androidx.work.Worker
import androidx.work.WorkerParameters
import com.google.firebase.messaging.FirebaseMessagingService
import com.google.firebase.messaging.RemoteMessage
import org.json.JSONArray
import java.io.IOException
import java.util.concurrent.TimeUnit

/** Silent pushes, in the foreground and in the background. There are some seconds, and the network belongs into a job. */
class HeraldMessagingService : FirebaseMessagingService() {
    override fun onMessageReceived(message: RemoteMessage) {
        val push = HeraldPush.parse(message.data) ?: return
        push.receipt?.takeIf { it.isNotEmpty() && push.form != HeraldPush.Form.STATE }?.let { HeraldWork.acknowledge(this, it) }
        if (push.fetch) HeraldWork.fetch(this)
        // What is visible comes here only while the app is in the foreground, and then it is the app that shows it.
        val title = message.notification?.title ?: Order.read(push.content)?.title ?: return
        show(push, title)
    }

    // What was stored for this phone is lost: ask what happened.
    override fun onDeletedMessages() = HeraldWork.fetch(this)

    override fun onNewToken(token: String) = HeraldWork.subscribe(this, token)

    private fun show(push: HeraldPush, title: String) {
        val sight = HeraldShelf(this).look(push)
        if (sight == HeraldShelf.Sight.KNOWN) return
        val id = push.notificationId ?: return
        val shown = NotificationCompat.Builder(this, CHANNEL)
            .setSmallIcon(R.drawable.order)
            .setContentTitle(title)
            .setGroup(push.groupName)
            .setOnlyAlertOnce(sight == HeraldShelf.Sight.REPLACES)
            .setAutoCancel(true)
            .setContentIntent(opening(id))
            .setDeleteIntent(dismissing(id))
            .build()
        // Tag and id of an alert of the same notification: should one come, it replaces this.
        NotificationManagerCompat.from(this).notify(push.tag("mail.contoso.com", SignIn.userId(this)), 0, shown)
    }

    /** Opens the app, which finds the id in its intent. */
    private fun opening(notificationId: String): PendingIntent {
        val intent = packageManager.getLaunchIntentForPackage(packageName) ?: Intent()
        return PendingIntent.getActivity(this, notificationId.hashCode(), intent.putExtra("notificationId", notificationId), FLAGS)
    }

    private fun dismissing(notificationId: String): PendingIntent {
        val intent = Intent(this, HeraldDismissed::class.java).putExtra("notificationId", notificationId)
        return PendingIntent.getBroadcast(this, notificationId.hashCode(), intent, FLAGS)
    }

    companion object {
        const val CHANNEL = "orders"
        private const val FLAGS = PendingIntent.FLAG_UPDATE_CURRENT or PendingIntent.FLAG_IMMUTABLE

        /** At the first start of the app; the manifest names it as FCM's default, for alerts that the system shows. */
        fun createChannel(context: Context) {
            val channel = NotificationChannel(CHANNEL, "Orders", NotificationManager.IMPORTANCE_HIGH)
            context.getSystemService(NotificationManager::class.java).createNotificationChannel(channel)
        }
    }
}

/** What needs the network: done soon, and again when it fails. */
class HeraldWork(context: Context, parameters: WorkerParameters) : Worker(context, parameters) {
    override fun doWork(): Result {
        val shelf = HeraldShelf(applicationContext)
        val herald = Herald(shelf) { SignIn.accessToken(applicationContext) }
        val text = inputData.getString("text") ?: ""
        return try {
            when (inputData.getString("what")) {
                "acknowledge" -> herald.acknowledge(text)
                "subscribe" -> herald.subscribe(text, NotificationManagerCompat.from(applicationContext).areNotificationsEnabled())
                "opened" -> herald.markRead(text)
                "dismissed" -> herald.dismiss(text)
                // Names this phone, so that it acknowledges what it is given. The app takes off the screen what is gone.
                else -> herald.changes { changes: JSONArray -> Orders.apply(applicationContext, changes) }
            }
            Result.success()
        } catch (refused: Refused) {
            if (refused.passes) Result.retry() else Result.failure()
        } catch (_: IOException) {
            Result.retry()
        }
    }

    companion object {
        fun acknowledge(context: Context, receipt: String) = enqueue(context, "acknowledge", receipt)
        fun subscribe(context: Context, pushToken: String) = enqueue(context, "subscribe", pushToken)
        fun fetch(context: Context) = enqueue(context, "fetch", "")

        fun enqueue(context: Context, what: String, text: String) {
            val network = Constraints.Builder().setRequiredNetworkType(NetworkType.CONNECTED).build()
            val work = OneTimeWorkRequest.Builder(HeraldWork::class.java)
                .setInputData(Data.Builder().putString("what", what).putString("text", text).build())
                .setConstraints(network)
                .setExpedited(OutOfQuotaPolicy.RUN_AS_NON_EXPEDITED_WORK_REQUEST)
                .setBackoffCriteria(BackoffPolicy.EXPONENTIAL, 10, TimeUnit.SECONDS)
                .build()
            WorkManager.getInstance(context).enqueue(work)
        }
    }
}
