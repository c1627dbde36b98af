//! The HTTP server: the routes, and what every answer has in common.

use crate::shown::shown;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use crossbeam_channel::Sender;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::connections::{self, Limits};
use super::control::Request;
use super::guard::Guard;
use super::local_token::{self, LocalToken};
use super::tokens::Tokens;
use super::{Status, api, metrics};

/// Gives the numbers of this moment; called once per request, so it must be quick.
pub type StatusSource = Arc<dyn Fn() -> Status + Send + Sync>;

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    /// Where it listens: the port is a real one where 0 was asked for.
    pub address: SocketAddr,
    /// Ends after the shutdown, when the last answer is out.
    pub task: JoinHandle<io::Result<()>>,
    /// The token of the user who runs this process, which is taken as long as the server runs; or why there is none.
    pub local_token: Result<LocalToken, local_token::Error>,
}

/// What is served.
pub struct Site {
    /// The names, besides addresses, localhost and names without a dot, that requests may be made to.
    pub hosts: Vec<String>,
    /// What is shown.
    pub status: StatusSource,
    /// Where changes are asked for.
    pub requests: Sender<Request>,
    /// Who may ask, besides the user who runs this process: tokens by their names.
    pub tokens: BTreeMap<String, String>,
    /// Where the token of the user who runs this process may be kept; the first that will do is taken.
    pub token_folders: Vec<PathBuf>,
}

/// Serves until `shutdown` is ready.
///
/// # Errors
/// When it cannot listen there.
pub async fn serve(
    listen: SocketAddr,
    site: Site,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<Server> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let mut tokens = Tokens::named(&site.tokens);
    let local_token = LocalToken::create(&site.token_folders, address);
    if let Ok(local) = &local_token {
        tokens.add(format!("user:{}", local.user()), local.token().to_owned());
    }
    let inside = api::Site { status: site.status, requests: site.requests, tokens: Arc::new(tokens) };
    let serving = connections::attend(listener, router(site.hosts, inside), Limits::of_process(), shutdown);
    Ok(Server { address, task: tokio::spawn(serving), local_token })
}

fn router(hosts: Vec<String>, site: api::Site) -> Router {
    let read = Router::new()
        .route("/", get(|| async { file("text/html; charset=utf-8", include_str!("ui/index.html")) }))
        .route("/page.css", get(|| async { file("text/css; charset=utf-8", include_str!("ui/page.css")) }))
        .route("/page.js", get(|| async { file("text/javascript; charset=utf-8", include_str!("ui/page.js")) }))
        .route("/healthz", get(async |State(status): State<StatusSource>| verdict(status().health())))
        .route("/readyz", get(async |State(status): State<StatusSource>| verdict(status().readiness())))
        .route("/metrics", get(async |State(status): State<StatusSource>| prometheus(&status())))
        .route("/api/v1/status", get(async |State(status): State<StatusSource>| Json(status())))
        .with_state(site.status.clone());
    read.merge(api::routes(&site).with_state(site)).layer(middleware::from_fn_with_state(Guard::new(hosts), guarded))
}

/// Refuses what the guard does not allow, and gives every answer its safety headers.
async fn guarded(State(guard): State<Guard>, request: HttpRequest, next: Next) -> Response {
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
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, shown(&reason) + "\n"),
    }
}

fn prometheus(status: &Status) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::render(status))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::status::tests::running;
    use super::super::{State as Doing, client};
    use super::*;
    use crossbeam_channel::bounded;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use tokio::sync::oneshot;

    /// What a test serves.
    pub(in crate::admin) struct Fixture {
        pub(in crate::admin) status: Status,
        pub(in crate::admin) requests: Sender<Request>,
        pub(in crate::admin) tokens: BTreeMap<String, String>,
        pub(in crate::admin) token_folders: Vec<PathBuf>,
    }

    impl Fixture {
        /// A status, and nobody who may change anything.
        pub(in crate::admin) fn new(status: Status) -> Self {
            Self { status, requests: bounded(1).0, tokens: BTreeMap::new(), token_folders: Vec::new() }
        }

        /// The same with a token.
        pub(in crate::admin) fn token(mut self, name: &str, token: &str) -> Self {
            self.tokens.insert(name.into(), token.into());
            self
        }

        /// Serves on a free port while `ask` runs, and shuts down.
        pub(in crate::admin) fn serve<T: Send + 'static>(
            self,
            ask: impl FnOnce(SocketAddr) -> T + Send + 'static,
        ) -> T {
            let Self { status, requests, tokens, token_folders } = self;
            let status: StatusSource = Arc::new(move || status.clone());
            let site = Site { hosts: Vec::new(), status, requests, tokens, token_folders };
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                let (stop, stopped) = oneshot::channel::<()>();
                let listen = SocketAddr::from(([127, 0, 0, 1], 0));
                let server = serve(listen, site, async { drop(stopped.await) }).await.unwrap();
                let answer = tokio::task::spawn_blocking(move || ask(server.address)).await.unwrap();
                stop.send(()).unwrap();
                server.task.await.unwrap().unwrap();
                answer
            })
        }
    }

    fn with_server<T: Send + 'static>(status: Status, ask: impl FnOnce(SocketAddr) -> T + Send + 'static) -> T {
        Fixture::new(status).serve(ask)
    }

    fn get(address: SocketAddr, path: &str, host: &str) -> String {
        exchange(address, &format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n"))
    }

    /// Sends this, and gives all that comes back.
    pub(in crate::admin) fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
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
