// As much of androidx.work as is used, by its reference.
package androidx.work

import android.content.Context
import java.util.concurrent.TimeUnit

class WorkerParameters

abstract class ListenableWorker(val applicationContext: Context, @Suppress("UNUSED_PARAMETER") parameters: WorkerParameters) {
    val inputData = Data()

    open class Result {
        companion object {
            @JvmStatic fun success() = Result()
            @JvmStatic fun retry() = Result()
            @JvmStatic fun failure() = Result()
        }
    }
}

abstract class Worker(context: Context, parameters: WorkerParameters) : ListenableWorker(context, parameters) {
    abstract fun doWork(): Result
}

class Data {
    fun getString(key: String): String? = key

    class Builder {
        fun putString(key: String, value: String?) = apply { key + value }
        fun build() = Data()
    }
}

enum class NetworkType { CONNECTED }
enum class BackoffPolicy { EXPONENTIAL }
enum class OutOfQuotaPolicy { RUN_AS_NON_EXPEDITED_WORK_REQUEST }

class Constraints {
    class Builder {
        fun setRequiredNetworkType(type: NetworkType) = apply { type.name }
        fun build() = Constraints()
    }
}

class OneTimeWorkRequest {
    class Builder(worker: Class<out ListenableWorker>) {
        private val name: String = worker.name
        fun setInputData(data: Data) = apply { data.hashCode() }
        fun setConstraints(constraints: Constraints) = apply { constraints.hashCode() }
        fun setExpedited(policy: OutOfQuotaPolicy) = apply { policy.name }
        fun setBackoffCriteria(policy: BackoffPolicy, delay: Long, unit: TimeUnit) = apply { policy.name + delay + unit + name }
        fun build() = OneTimeWorkRequest()
    }
}

class WorkManager {
    fun enqueue(request: OneTimeWorkRequest) = request.hashCode()

    companion object {
        @JvmStatic fun getInstance(context: Context) = WorkManager().also { context.packageName }
    }
}
