// The app: registers, handles silent pushes, and says what the person did.

import UIKit
import UserNotifications

@main
final class AppDelegate: UIResponder, UIApplicationDelegate, UNUserNotificationCenterDelegate {
    private let herald = Herald(token: { try await SignIn.shared.accessToken() })

    func application(_ application: UIApplication, didFinishLaunchingWithOptions options: [UIApplication.LaunchOptionsKey: Any]?) -> Bool {
        let center = UNUserNotificationCenter.current()
        center.delegate = self
        // Without customDismissAction the app is not told of a swipe. The extension puts pushes into this category.
        let category = UNNotificationCategory(identifier: "herald", actions: [], intentIdentifiers: [], options: .customDismissAction)
        center.setNotificationCategories([category])
        Task {
            _ = try? await center.requestAuthorization(options: [.alert, .sound, .badge])
            application.registerForRemoteNotifications()
        }
        return true
    }

    // At each start, and when the system changes the token.
    func application(_ application: UIApplication, didRegisterForRemoteNotificationsWithDeviceToken token: Data) {
        Task {
            let settings = await UNUserNotificationCenter.current().notificationSettings()
            try? await herald.subscribe(
                deviceToken: token,
                alertsAllowed: settings.authorizationStatus == .authorized,
                lowPowerMode: ProcessInfo.processInfo.isLowPowerModeEnabled,
                backgroundRefresh: application.backgroundRefreshStatus == .available
            )
        }
    }

    // Silent pushes: about 30 seconds from here. Acknowledge first, since until then the toast is on its way.
    func application(_ application: UIApplication, didReceiveRemoteNotification userInfo: [AnyHashable: Any]) async -> UIBackgroundFetchResult {
        guard let push = HeraldPush(userInfo) else { return .noData }
        switch push.form {
        case .raw where !push.fetch:
            await herald.acknowledge(push)
            await show(push)
            return .newData
        case .toast, .alert:
            // In the foreground these come through willPresent.
            return .noData
        case .raw, .state, nil:
            return await applyChanges() ? .newData : .failed
        }
    }

    private func show(_ push: HeraldPush) async {
        guard HeraldShelf.shared.look(push) != .known, let order = Order(push.content) else { return }
        let content = UNMutableNotificationContent()
        content.title = order.title
        content.sound = .default
        content.categoryIdentifier = "herald"
        content.threadIdentifier = push.groupName ?? ""
        content.userInfo = ["notificationId": push.notificationId ?? ""]
        // The identifier of the toast: should it come all the same, it replaces this one.
        let identifier = push.screenId(app: "mail.contoso.com", user: SignIn.shared.userId) ?? UUID().uuidString
        try? await UNUserNotificationCenter.current().add(UNNotificationRequest(identifier: identifier, content: content, trigger: nil))
    }

    /// Fetches what changed, and takes off the screen what was read, dismissed or deleted elsewhere. The fetch names this
    /// phone, so that it acknowledges what it is given.
    private func applyChanges() async -> Bool {
        guard let changes = try? await herald.changes(since: Store.shared.deltaLink), let gone = Store.shared.apply(changes) else { return false }
        let center = UNUserNotificationCenter.current()
        let shown = await center.deliveredNotifications().filter { gone.contains(id(of: $0.request.content) ?? "") }
        center.removeDeliveredNotifications(withIdentifiers: shown.map(\.request.identifier))
        return true
    }

    func userNotificationCenter(_ center: UNUserNotificationCenter, didReceive response: UNNotificationResponse) async {
        guard let id = id(of: response.notification.request.content) else { return }
        if response.actionIdentifier == UNNotificationDismissActionIdentifier {
            try? await herald.dismiss(id)
        } else {
            try? await herald.markRead(id)
        }
    }

    func userNotificationCenter(_ center: UNUserNotificationCenter, willPresent notification: UNNotification) async -> UNNotificationPresentationOptions {
        [.banner, .list, .sound]
    }

    private func id(of content: UNNotificationContent) -> String? {
        content.userInfo["notificationId"] as? String ?? HeraldPush(content.userInfo)?.notificationId
    }
}
