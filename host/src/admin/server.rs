//! The HTTP server: the routes, and what every answer has in common.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::guard::Guard;
use super::{Status, metrics};

/// Gives the numbers of this moment; called once per request, so it must be quick.
pub type StatusSource = Arc<dyn Fn() -> Status + Send + Sync>;

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    /// Where it listens: the port is a real one where 0 was asked for.
    pub address: SocketAddr,
    /// Ends after the shutdown, when the last answer is out.
    pub task: JoinHandle<io::Result<()>>,
}

/// Serves until `shutdown` is ready. `hosts` are the names, besides addresses, localhost and names without a dot, that
/// requests may be made to.
///
/// # Errors
/// When it cannot listen there.
pub async fn serve(
    listen: SocketAddr,
    hosts: Vec<String>,
    status: StatusSource,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<Server> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let serving = axum::serve(listener, router(hosts, status)).with_graceful_shutdown(shutdown);
    Ok(Server { address, task: tokio::spawn(serving.into_future()) })
}

fn router(hosts: Vec<String>, status: StatusSource) -> Router {
    Router::new()
        .route("/", get(|| async { file("text/html; charset=utf-8", include_str!("ui/index.html")) }))
        .route("/page.css", get(|| async { file("text/css; charset=utf-8", include_str!("ui/page.css")) }))
        .route("/page.js", get(|| async { file("text/javascript; charset=utf-8", include_str!("ui/page.js")) }))
        .route("/healthz", get(async |State(status): State<StatusSource>| verdict(status().health())))
        .route("/readyz", get(async |State(status): State<StatusSource>| verdict(status().readiness())))
        .route("/metrics", get(async |State(status): State<StatusSource>| prometheus(&status())))
        .route("/api/v1/status", get(async |State(status): State<StatusSource>| Json(status())))
        .with_state(status)
        .layer(middleware::from_fn_with_state(Guard::new(hosts), guarded))
}

/// Refuses what the guard does not allow, and gives every answer its safety headers.
async fn guarded(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let allowed = guard.allows(text(request.headers(), &header::HOST), text(request.headers(), &header::ORIGIN));
    let mut response = if allowed {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "this host name or origin is not served here\n").into_response()
    };
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                  base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    // A header that is not text is no name we know.
    headers.get(name).map(|value| value.to_str().unwrap_or("?.?"))
}

fn file(kind: &'static str, contents: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind)], contents)
}

fn verdict(verdict: Result<(), String>) -> (StatusCode, String) {
    match verdict {
        Ok(()) => (StatusCode::OK, "ok\n".into()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
    }
}

fn prometheus(status: &Status) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::render(status))
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::running;
    use super::super::{State as Doing, client};
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use tokio::sync::oneshot;

    /// Serves `status` on a free port while `ask` runs, and shuts down.
    fn with_server<T: Send + 'static>(status: Status, ask: impl FnOnce(SocketAddr) -> T + Send + 'static) -> T {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let (stop, stopped) = oneshot::channel::<()>();
            let source: StatusSource = Arc::new(move || status.clone());
            let listen = SocketAddr::from(([127, 0, 0, 1], 0));
            let server = serve(listen, Vec::new(), source, async { drop(stopped.await) }).await.unwrap();
            let answer = tokio::task::spawn_blocking(move || ask(server.address)).await.unwrap();
            stop.send(()).unwrap();
            server.task.await.unwrap().unwrap();
            answer
        })
    }

    fn get(address: SocketAddr, path: &str, host: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn every_route_answers_with_its_safety_headers() {
        with_server(running(), |address| {
            for path in ["/", "/page.css", "/page.js", "/healthz", "/readyz", "/metrics", "/api/v1/status"] {
                let answer = get(address, path, "localhost");
                assert!(answer.starts_with("HTTP/1.0 200"), "{path}: {answer}");
                assert!(answer.contains("cache-control: no-store") && answer.contains("default-src 'none'"), "{path}");
            }
        });
    }

    #[test]
    fn a_foreign_host_name_is_refused_everywhere() {
        let answer = with_server(running(), |address| get(address, "/api/v1/status", "evil.example.org"));
        assert!(answer.starts_with("HTTP/1.0 403") && !answer.contains("clickstream"), "{answer}");
    }

    #[test]
    fn a_paused_job_is_not_ready_and_says_why() {
        let status = Status { state: Doing::Paused, detail: "disk full".into(), ..running() };
        let answer = with_server(status, |address| get(address, "/readyz", "localhost"));
        assert!(answer.starts_with("HTTP/1.0 503") && answer.ends_with("paused: disk full\n"), "{answer}");
    }

    #[test]
    fn the_client_gets_the_status_as_it_is() {
        let got = with_server(running(), |address| client::fetch_status(&format!("http://{address}")));
        assert_eq!(got.unwrap(), running());
    }
}
