package com.contoso.mail

import android.app.Activity
import android.content.BroadcastReceiver
import android.content.Context
import android.content.Intent
import android.os.Build
import com.google.firebase.messaging.FirebaseMessaging

/** What the app's first activity does at each start, once the person is signed in. */
object Registration {
    fun start(activity: Activity) {
        HeraldMessagingService.createChannel(activity)
        // Android 13: without it nothing is shown. Silent pushes come all the same.
        if (Build.VERSION.SDK_INT >= 33) activity.requestPermissions(arrayOf("android.permission.POST_NOTIFICATIONS"), 1)
        FirebaseMessaging.getInstance().token.addOnSuccessListener { token -> HeraldWork.subscribe(activity, token) }
        opened(activity)
    }

    /** The intent names the notification that the person opened the app with: one of the app's, or an alert of the system's. */
    private fun opened(activity: Activity) {
        val alert = activity.intent.getStringExtra("herald")?.let { HeraldPush.parse(mapOf("herald" to it)) }
        alert?.receipt?.takeIf { it.isNotEmpty() }?.let { HeraldWork.acknowledge(activity, it) }
        val id = activity.intent.getStringExtra("notificationId") ?: alert?.notificationId ?: return
        HeraldWork.enqueue(activity, "opened", id)
    }
}

/** The person swiped a notification of the app's away. (Of alerts that the system shows, nobody is told.) */
class HeraldDismissed : BroadcastReceiver() {
    override fun onReceive(context: Context, intent: Intent) {
        intent.getStringExtra("notificationId")?.let { HeraldWork.enqueue(context, "dismissed", it) }
    }
}
