// What the app itself supplies.
package com.contoso.mail

import android.content.Context
import org.json.JSONArray

class Order(val title: String) {
    companion object {
        fun read(content: String?): Order? = content?.let { Order(it) }
    }
}

object Orders {
    /** Stores the changes, and takes off the screen what was read, dismissed or deleted elsewhere. */
    fun apply(context: Context, changes: JSONArray) = context.packageName.let { changes.length() }.let { }
}

object SignIn {
    fun userId(context: Context): String = context.packageName
    fun accessToken(context: Context): String = context.packageName
}

object R {
    object drawable {
        const val order = 1
    }
}
