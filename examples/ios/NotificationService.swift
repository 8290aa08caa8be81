// The notification service extension: runs before a visible push is shown, also while the app does not. It acknowledges, and
// keeps silent what the person was told already.

import UserNotifications

final class NotificationService: UNNotificationServiceExtension {
    private var deliver: ((UNNotificationContent) -> Void)?
    private var content = UNMutableNotificationContent()

    override func didReceive(_ request: UNNotificationRequest, withContentHandler contentHandler: @escaping (UNNotificationContent) -> Void) {
        guard let push = HeraldPush(request.content.userInfo),
              let content = request.content.mutableCopy() as? UNMutableNotificationContent
        else { return contentHandler(request.content) }
        self.content = content
        deliver = contentHandler
        content.categoryIdentifier = "herald"
        if HeraldShelf.shared.look(push) == .known {
            // It can't be taken away, but it need not make a noise. (No interruption: iOS 15.)
            content.sound = nil
            content.interruptionLevel = .passive
        }
        Task {
            await Herald().acknowledge(push)
            finish()
        }
    }

    // The time is up: show what there is. The receipt is kept and goes with the next one.
    override func serviceExtensionTimeWillExpire() {
        finish()
    }

    private func finish() {
        deliver?(content)
        deliver = nil
    }
}
