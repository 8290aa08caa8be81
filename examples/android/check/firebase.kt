// As much of firebase-messaging as is used, by its reference.
package com.google.firebase.messaging

import android.app.Service
import android.content.Intent
import android.os.IBinder

abstract class FirebaseMessagingService : Service() {
    override fun onBind(intent: Intent?): IBinder? = null
    open fun onMessageReceived(message: RemoteMessage) {}
    open fun onDeletedMessages() {}
    open fun onNewToken(token: String) {}
}

class RemoteMessage(val data: Map<String, String>, val notification: Notification?) {
    class Notification(val title: String?)
}

class Task<T> {
    fun addOnSuccessListener(listener: (T) -> Unit): Task<T> = apply { listener.hashCode() }
}

class FirebaseMessaging {
    val token: Task<String> = Task()

    companion object {
        @JvmStatic fun getInstance() = FirebaseMessaging()
    }
}
