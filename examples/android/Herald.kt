package com.contoso.mail

import android.content.Context
import android.util.Base64
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject
import java.io.IOException
import java.net.HttpURLConnection
import java.net.URL
import java.nio.ByteBuffer
import java.security.MessageDigest
import java.util.UUID

/** The object `herald` of a push. The contract is docs/app-side.md. */
class HeraldPush private constructor(private val json: JSONObject) {
    enum class Form { RAW, TOAST, ALERT, STATE }

    /** `null` for a version or form that this app doesn't know: then fetch, and read nothing else. */
    val form: Form? = if (json.optInt("version") != 1) null else Form.values().find { it.name.equals(json.optString("form"), ignoreCase = true) }
    val fetch: Boolean = form == null || json.optBoolean("fetch")
    val notificationId: String? = text("notificationId")
    val appNotificationId: String? = text("appNotificationId")
    val groupName: String? = text("groupName")
    val receipt: String? = text("receipt")
    val content: String? = text("content")

    private fun text(key: String): String? = if (json.has(key)) json.optString(key) else null

    /**
     * The tag that an alert of this notification has on the screen (its id is 0): give it to a notification of the app's own
     * that the alert shall replace.
     */
    fun tag(app: String, user: String): String {
        val id = appNotificationId
        val last = if (id != null) listOf(id.toByteArray()) else listOf(ByteArray(0), bytes(UUID.fromString(notificationId)))
        val hash = MessageDigest.getInstance("SHA-256")
        for (part in listOf(app.toByteArray(), user.toByteArray()) + last) {
            hash.update(ByteBuffer.allocate(8).putLong(part.size.toLong()).array())
            hash.update(part)
        }
        return Base64.encodeToString(hash.digest(), Base64.URL_SAFE or Base64.NO_PADDING or Base64.NO_WRAP)
    }

    private fun bytes(id: UUID): ByteArray =
        ByteBuffer.allocate(16).putLong(id.mostSignificantBits).putLong(id.leastSignificantBits).array()

    companion object {
        /** Reads the data of a message. `null`: not a push of Herald's. */
        fun parse(data: Map<String, String>): HeraldPush? = try {
            data["herald"]?.let { HeraldPush(JSONObject(it)) }?.takeIf { it.json.optInt("version") > 0 }
        } catch (_: JSONException) {
            null
        }
    }
}

/** What this phone remembers. */
class HeraldShelf(context: Context) {
    private val stored = context.getSharedPreferences("herald", Context.MODE_PRIVATE)

    enum class Sight { NEW, KNOWN, REPLACES }

    /** Tell the person only of what is new; what replaces another is shown in its place. */
    fun look(push: HeraldPush): Sight = synchronized(LOCK) {
        val id = push.notificationId ?: return Sight.NEW
        val key = push.appNotificationId?.let { "a:$it" } ?: "n:$id"
        val told = JSONArray(stored.getString("told", "[]"))
        val entries = (0 until told.length()).map { told.getJSONArray(it) }
        val known = entries.find { it.getString(0) == key }?.getString(1)
        if (known == id) return Sight.KNOWN
        val kept = entries.filter { it.getString(0) != key } + JSONArray(listOf(key, id))
        stored.edit().putString("told", JSONArray(kept.takeLast(LIMIT)).toString()).commit()
        return if (known == null) Sight.NEW else Sight.REPLACES
    }

    var unsid: String?
        get() = stored.getString("unsid", null)
        set(value) = stored.edit().putString("unsid", value).apply()

    var deltaLink: String?
        get() = stored.getString("deltaLink", null)
        set(value) = stored.edit().putString("deltaLink", value).apply()

    private companion object {
        const val LIMIT = 500
        val LOCK = Any()
    }
}

/** The gateway did not do it. */
class Refused(val status: Int) : IOException("the gateway answered $status") {
    /** Is it over by itself? */
    val passes: Boolean get() = status == 408 || status == 429 || status > 500
}

/** The calls; each blocks. `token` is the person's access token; acknowledging needs none. */
class Herald(private val shelf: HeraldShelf, private val token: () -> String = { error("acknowledging needs no token") }) {
    /** Throws `IOException` if it has to be tried again. */
    fun acknowledge(receipt: String) {
        val item = JSONObject().put("capability", receipt)
        call("POST", "/v1/receipts", JSONObject().put("receipts", JSONArray(listOf(item))), withToken = false)
    }

    /** At each start of the app, and whenever the token changes: keeps the subscription, or makes one. */
    fun subscribe(pushToken: String, alertsAllowed: Boolean) {
        val body = JSONObject()
            .put("platform", "android")
            .put("pushToken", pushToken)
            .put("deviceState", JSONObject().put("alertsAllowed", alertsAllowed))
        shelf.unsid?.let { body.put("userNotificationSubscriptionId", it) }
        shelf.unsid = JSONObject(call("POST", "/v1/subscriptions", body)).getString("userNotificationSubscriptionId")
    }

    /** Before the person signs out. */
    fun unsubscribe() {
        val unsid = shelf.unsid ?: return
        call("DELETE", "/v1/subscriptions/$unsid", null)
        shelf.unsid = null
    }

    /** What changed since the last call: `apply` stores it, and only then the link moves on. */
    fun changes(apply: (JSONArray) -> Unit) {
        // Links are followed at BASE, wherever they point, so that the token goes nowhere else.
        var path = shelf.deltaLink ?: START
        while (true) {
            val page = try {
                JSONObject(call("GET", path, null))
            } catch (refused: Refused) {
                if (refused.status != 410 || path == START) throw refused
                path = START
                continue
            }
            apply(page.getJSONArray("value"))
            val next = page.optString("@odata.nextLink").ifEmpty { null }
            path = pathOf(next ?: page.getString("@odata.deltaLink"))
            if (next == null) break
        }
        shelf.deltaLink = path
    }

    fun markRead(id: String) {
        call("PATCH", "$NOTIFICATIONS/$id", JSONObject().put("readState", true).put("userActionState", "Activated"))
    }

    fun dismiss(id: String) {
        call("PATCH", "$NOTIFICATIONS/$id", JSONObject().put("userActionState", "Dismissed"))
    }

    private fun pathOf(link: String) = link.substring(link.indexOf("/v1.0/"))

    private fun call(method: String, path: String, body: JSONObject?, withToken: Boolean = true): String {
        val connection = URL(BASE + path).openConnection() as HttpURLConnection
        try {
            connection.requestMethod = method
            connection.connectTimeout = 8_000
            connection.readTimeout = 8_000
            connection.instanceFollowRedirects = false
            if (withToken) {
                connection.setRequestProperty("Authorization", "Bearer ${token()}")
                shelf.unsid?.let { connection.setRequestProperty("X-UNS-ID", it) }
            }
            if (body != null) {
                connection.doOutput = true
                connection.setRequestProperty("Content-Type", "application/json")
                connection.outputStream.use { it.write(body.toString().toByteArray()) }
            }
            if (connection.responseCode >= 300) throw Refused(connection.responseCode)
            return connection.inputStream.bufferedReader().use { it.readText() }
        } finally {
            connection.disconnect()
        }
    }

    private companion object {
        const val BASE = "https://push.contoso.com"
        const val NOTIFICATIONS = "/v1.0/me/notifications"
        const val START = "$NOTIFICATIONS/delta"
    }
}
