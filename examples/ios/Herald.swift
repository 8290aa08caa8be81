// What a push of Herald says, and the calls that answer it. For the app and its notification service extension: a member of
// both targets. The contract is docs/app-side.md.

import CryptoKit
import Foundation

/// The object `herald` of a push.
struct HeraldPush: Decodable {
    enum Form: String { case raw, toast, alert, state }

    let version: Int
    private let formName: String?
    let notificationId: String?
    let appNotificationId: String?
    let groupName: String?
    let receipt: String?
    let content: String?
    private let fetchFlag: Bool?

    private enum CodingKeys: String, CodingKey {
        case version, notificationId, appNotificationId, groupName, receipt, content
        case formName = "form"
        case fetchFlag = "fetch"
    }

    /// `nil` for a version or form that this app doesn't know: then fetch, and read nothing else.
    var form: Form? { version == 1 ? formName.flatMap(Form.init(rawValue:)) : nil }
    var fetch: Bool { fetchFlag == true || form == nil }

    /// Reads `userInfo`. `nil`: not a push of Herald's.
    init?(_ userInfo: [AnyHashable: Any]) {
        guard let herald = userInfo["herald"] as? [String: Any],
              let json = try? JSONSerialization.data(withJSONObject: herald),
              let push = try? JSONDecoder().decode(HeraldPush.self, from: json)
        else { return nil }
        self = push
    }

    /// The identifier that the toast has on the screen: give it to a local notification that the toast shall replace.
    func screenId(app: String, user: String) -> String? {
        var hash = SHA256()
        func add(_ bytes: Data) {
            withUnsafeBytes(of: UInt64(bytes.count).bigEndian) { hash.update(bufferPointer: $0) }
            hash.update(data: bytes)
        }
        add(Data(app.utf8))
        add(Data(user.utf8))
        if let id = appNotificationId {
            add(Data(id.utf8))
        } else {
            guard let id = notificationId.flatMap(UUID.init(uuidString:)) else { return nil }
            add(Data())
            add(withUnsafeBytes(of: id.uuid) { Data($0) })
        }
        return Data(hash.finalize()).base64EncodedString()
            .replacingOccurrences(of: "+", with: "-")
            .replacingOccurrences(of: "/", with: "_")
            .replacingOccurrences(of: "=", with: "")
    }
}

/// What app and extension share: an App Group, named in the entitlements of both.
struct HeraldShelf {
    static let shared = HeraldShelf(defaults: UserDefaults(suiteName: "group.com.contoso.mail")!)
    private static let limit = 500
    let defaults: UserDefaults

    enum Sight { case new, known, replaces }

    /// Tell the person only of what is new; what replaces another is shown in its place. App and extension are two
    /// processes: in the worst case both look at the same moment, and the person is told twice.
    func look(_ push: HeraldPush) -> Sight {
        guard let id = push.notificationId else { return .new }
        let key = push.appNotificationId.map { "a:" + $0 } ?? "n:" + id
        var told = defaults.array(forKey: "herald.told") as? [[String]] ?? []
        let known = told.first { $0.first == key }
        if known?.last == id { return .known }
        told.removeAll { $0.first == key }
        told.append([key, id])
        defaults.set(Array(told.suffix(Self.limit)), forKey: "herald.told")
        return known == nil ? .new : .replaces
    }

    /// This phone's subscription.
    var unsid: String? {
        get { defaults.string(forKey: "herald.unsid") }
        nonmutating set { defaults.set(newValue, forKey: "herald.unsid") }
    }

    /// Receipts that could not be sent yet.
    var unsent: [String] {
        get { defaults.stringArray(forKey: "herald.unsent") ?? [] }
        nonmutating set { defaults.set(newValue, forKey: "herald.unsent") }
    }
}

/// The calls.
struct Herald {
    let base = URL(string: "https://push.contoso.com")!
    /// The person's access token. The extension needs none: acknowledging works without.
    var token: () async throws -> String = { throw URLError(.userAuthenticationRequired) }

    /// Acknowledges a push, and whatever could not be acknowledged before. Never throws: what isn't sent is kept.
    func acknowledge(_ push: HeraldPush, on shelf: HeraldShelf = .shared) async {
        var capabilities = shelf.unsent
        if let receipt = push.receipt, !receipt.isEmpty { capabilities.append(receipt) }
        guard !capabilities.isEmpty else { return }
        let body = ["receipts": capabilities.suffix(1000).map { ["capability": $0] }]
        for wait in [0, 0.5, 1, 2] {
            try? await Task.sleep(nanoseconds: UInt64(wait * 1_000_000_000))
            guard let status = try? await send("POST", "v1/receipts", body, token: nil).status else { continue }
            if status < 300 || status == 400 {
                shelf.unsent = []
                return
            }
        }
        shelf.unsent = capabilities
    }

    struct Subscription: Decodable { let userNotificationSubscriptionId: String }

    /// At each start of the app, and whenever the token changes: keeps the subscription, or makes one.
    func subscribe(deviceToken: Data, alertsAllowed: Bool, lowPowerMode: Bool, backgroundRefresh: Bool) async throws {
        #if DEBUG
        let environment = "sandbox"
        #else
        let environment = "production"
        #endif
        var body: [String: Any] = [
            "platform": "ios", "environment": environment,
            "pushToken": deviceToken.map { String(format: "%02x", $0) }.joined(),
            "deviceState": ["alertsAllowed": alertsAllowed, "lowPowerMode": lowPowerMode, "backgroundRefresh": backgroundRefresh],
        ]
        body["userNotificationSubscriptionId"] = HeraldShelf.shared.unsid
        let answer = try await checked("POST", "v1/subscriptions", body)
        HeraldShelf.shared.unsid = try JSONDecoder().decode(Subscription.self, from: answer).userNotificationSubscriptionId
    }

    /// Before the person signs out.
    func unsubscribe() async throws {
        guard let unsid = HeraldShelf.shared.unsid else { return }
        _ = try await checked("DELETE", "v1/subscriptions/\(unsid)", nil)
        HeraldShelf.shared.unsid = nil
    }

    /// What changed since the link of the last call. Store the link it ends with once the changes are applied. An error of
    /// status 410: start again without a link.
    func changes(since link: String?) async throws -> Data {
        // Links are followed at `base`, wherever they point, so that the token goes nowhere else.
        let known = link.flatMap { $0.range(of: "/v1.0/") }.map { String(link![$0.lowerBound...].dropFirst()) }
        return try await checked("GET", known ?? "v1.0/me/notifications/delta", nil)
    }

    func markRead(_ id: String) async throws {
        _ = try await checked("PATCH", "v1.0/me/notifications/\(id)", ["readState": true, "userActionState": "Activated"])
    }

    func dismiss(_ id: String) async throws {
        _ = try await checked("PATCH", "v1.0/me/notifications/\(id)", ["userActionState": "Dismissed"])
    }

    struct Refused: Error { let status: Int }

    private func checked(_ method: String, _ path: String, _ body: Any?) async throws -> Data {
        let answer = try await send(method, path, body, token: token())
        guard answer.status < 300 else { throw Refused(status: answer.status) }
        return answer.body
    }

    private func send(_ method: String, _ path: String, _ body: Any?, token: String?) async throws -> (status: Int, body: Data) {
        guard let url = URL(string: path, relativeTo: base) else { throw URLError(.badURL) }
        var request = URLRequest(url: url, timeoutInterval: 8)
        request.httpMethod = method
        if let token { request.setValue("Bearer \(token)", forHTTPHeaderField: "Authorization") }
        if token != nil, let unsid = HeraldShelf.shared.unsid { request.setValue(unsid, forHTTPHeaderField: "X-UNS-ID") }
        if let body {
            request.setValue("application/json", forHTTPHeaderField: "Content-Type")
            request.httpBody = try JSONSerialization.data(withJSONObject: body)
        }
        let (data, response) = try await URLSession.shared.data(for: request)
        return ((response as? HTTPURLResponse)?.statusCode ?? 0, data)
    }
}
