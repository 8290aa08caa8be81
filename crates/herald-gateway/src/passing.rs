//! What every request passes on its way in and out, whatever its route.
//!
//! Stands around the router. On the way in a request gets its id; on the way out its answer gets the ids and the security
//! headers, is counted, and may get one line in the log (target `herald::http`): method, the route's template, status, time,
//! app and ids. Never a path as it was sent (it may name a user), a query, a body, a token or an address. An answer that
//! takes too long is a 503.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use herald_core::ids::AppId;
use herald_core::time::Timestamp;
use herald_metrics::{HttpRoute, Metrics};
use tokio::time::{Instant, timeout};
use tracing::info;

use crate::refusal::Refusal;
use crate::request_ids::Ids;

/// The longest that a request may take once its headers are read: above the sum of what its parts may.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

tokio::task_local! {
    /// Whose request it is, once that is known.
    static APP: OnceCell<AppId>;
}

/// Which requests get a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestLog {
    /// Each; of health and metrics only those that failed.
    All,
    /// Those that were not done: 4xx and 5xx.
    #[default]
    Refused,
    /// None.
    None,
}

/// What is done to all requests alike.
pub(crate) struct Passing {
    pub(crate) metrics: Metrics,
    /// The store's time.
    pub(crate) now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    pub(crate) log: RequestLog,
    /// Whether the listener speaks TLS itself: only then is it ours to say that nothing else may be used.
    pub(crate) tls: bool,
}

/// Notes for the log whose request this is. Outside a request it does nothing.
pub(crate) fn is_of(app: &AppId) {
    APP.try_with(|noted| noted.set(app.clone()).ok()).ok();
}

/// Lets a request through.
pub(crate) async fn through(State(passing): State<Arc<Passing>>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let ids = Ids::given_to(request.headers_mut());
    let template = request.extensions().get::<MatchedPath>().cloned();
    let method = word(request.method());
    let answered = APP.scope(OnceCell::new(), async {
        let answered = timeout(ANSWER_LIMIT, next.run(request)).await;
        (answered, APP.with(|app| app.get().cloned()))
    });
    let (answered, app) = answered.await;
    let mut response = answered.unwrap_or_else(|_| {
        let problem = format!("was not answered within {} s", ANSWER_LIMIT.as_secs());
        let refusal = Refusal::unavailable(problem, "send it again after Retry-After");
        refusal.of(ids.inner((passing.now)())).into_response()
    });
    ids.put_on(&mut response);
    secure(&mut response, passing.tls);
    let (took, status) = (begun.elapsed(), response.status().as_u16());
    let template = template.as_ref().map(MatchedPath::as_str);
    let route = HttpRoute::of(template);
    passing.metrics.http(route, status, took);
    if logged(passing.log, route, status) {
        info!(
            target: "herald::http",
            method,
            route = template.unwrap_or("none"),
            status,
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            app.id = app.as_ref().map(AppId::as_str),
            request.id = ids.own(),
            client.request.id = ids.clients(),
            "answered"
        );
    }
    response
}

const fn logged(log: RequestLog, route: HttpRoute, status: u16) -> bool {
    let least = match (log, route) {
        (RequestLog::None, _) => return false,
        // Probes and scrapes come every few seconds.
        (_, HttpRoute::Health | HttpRoute::Metrics) => 500,
        (RequestLog::Refused, _) => 400,
        (RequestLog::All, _) => 0,
    };
    status >= least
}

/// A client may send any word as its method.
fn word(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// What answers say to browsers and caches: nothing here is a page, and nothing is for anybody but who asked.
fn secure(response: &mut Response, tls: bool) {
    /// A year, as RFC 6797 §10.1 and browsers advise.
    const TRANSPORT: (HeaderName, &str) = (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    const ALWAYS: [(HeaderName, &str); 4] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in ALWAYS.into_iter().chain(tls.then_some(TRANSPORT)) {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;
    use axum::{Router, middleware};
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_never_answered_is_told_to_come_back_after_30_s() {
        let metrics = Metrics::new();
        let now = Box::new(|| Timestamp::from_secs(0));
        let passing = Passing { metrics: metrics.clone(), now, log: RequestLog::None, tls: false };
        let router = Router::new().route("/", get(async || pending::<Response>().await));
        let router = router.layer(middleware::from_fn_with_state(Arc::new(passing), through));
        let begun = Instant::now();
        let request = Request::get("/").body(Body::empty()).unwrap();
        let answer = TowerToHyperService::new(router).call(request).await.unwrap();
        assert_eq!((answer.status(), begun.elapsed()), (StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(30)));
        let headers = answer.headers();
        assert!(headers.contains_key("retry-after") && headers.contains_key("request-id"), "{headers:?}");
        assert!(metrics.render().contains("herald_http_requests_total{route=\"issuer\",status=\"5xx\"} 1"));
    }

    #[test]
    fn the_log_has_what_was_asked_for_and_probes_only_when_they_fail() {
        use HttpRoute::{Health, Metrics, Nowhere, Receipts};
        for (log, route, from) in [
            (RequestLog::All, Receipts, 0),
            (RequestLog::All, Health, 500),
            (RequestLog::All, Metrics, 500),
            (RequestLog::Refused, Receipts, 400),
            (RequestLog::Refused, Nowhere, 400),
            (RequestLog::Refused, Health, 500),
            (RequestLog::None, Receipts, 600),
            (RequestLog::None, Health, 600),
        ] {
            for status in [200, 201, 304, 400, 404, 429, 500, 503] {
                assert_eq!(logged(log, route, status), status >= from, "{log:?} {route:?} {status}");
            }
        }
    }

    #[test]
    fn a_method_of_the_clients_own_is_not_repeated() {
        assert_eq!(word(&Method::PATCH), "PATCH");
        assert_eq!(word(&Method::from_bytes(b"S3CRET").unwrap()), "other");
    }
}
