//! The part of the API that changes a running pipeline: from a request to an [`Ask`], and from its reply to a response.
//!
//! Nobody may change anything but who has a token, and that is looked at before anything else of a request.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Extension, Path, Request as HttpRequest, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use crossbeam_channel::{RecvTimeoutError, Sender, TrySendError, bounded};

use super::StatusSource;
use super::connections::Trust;
use super::control::{
    ANSWER_WITHIN, Ask, Candidate, MAX_COMPONENT_BYTES, MIN_DIGEST_DIGITS, Policy, Refusal, RefusalKind, Reply,
    Request, ShadowOptions,
};
use super::query::{Query, number};
use super::tokens::Tokens;

/// What a request without a token is told.
const NO_TOKEN: &str = "a change needs a token: run the command as the user who runs the pipeline, or set WASMILL_TOKEN to \
                        one of [http.tokens] of the pipeline file; over HTTP, send it as Authorization: Bearer <token>\n";

/// What the handlers share.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) status: StatusSource,
    pub(super) requests: Sender<Request>,
    pub(super) tokens: Arc<Tokens>,
}

/// Who sent a request.
#[derive(Clone)]
struct Who(String);

/// A request's body, as far as it came.
type Body = Result<Bytes, BytesRejection>;

pub(super) fn routes(site: &Site) -> Router<Site> {
    Router::new()
        .route("/api/v1/plugins/{name}", put(swap))
        .route("/api/v1/plugins/{name}/rollback", post(rollback))
        .route("/api/v1/plugins/{name}/shadow", put(shadow).delete(discard))
        .route("/api/v1/plugins/{name}/shadow/promote", post(promote))
        .route("/api/v1/plugins/{name}/trial", delete(cancel))
        .layer(DefaultBodyLimit::max(MAX_COMPONENT_BYTES))
        .route_layer(middleware::from_fn_with_state(site.clone(), authorised))
        .route("/api/v1/plugins/{name}/shadow", get(report))
}

/// Lets nobody pass who has no token, and nothing that is too large, before any of it is read.
async fn authorised(
    State(site): State<Site>,
    Extension(trust): Extension<Trust>,
    mut request: HttpRequest,
    next: Next,
) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(who) = site.tokens.who(authorization).map(str::to_owned) else {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], NO_TOKEN).into_response();
    };
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if length.is_some_and(|bytes: u64| bytes > MAX_COMPONENT_BYTES as u64) {
        return (StatusCode::PAYLOAD_TOO_LARGE, "a component has at most 128 MiB\n").into_response();
    }
    request.extensions_mut().insert(Who(who));
    let _held = trust.hold();
    next.run(request).await
}

async fn swap(
    State(site): State<Site>,
    Extension(Who(who)): Extension<Who>,
    Path(plugin): Path<String>,
    uri: Uri,
    body: Body,
) -> Response {
    match body {
        Ok(body) => respond(&site, who, swap_of(plugin, &uri, &body)).await,
        Err(rejection) => rejection.into_response(),
    }
}

async fn shadow(
    State(site): State<Site>,
    Extension(Who(who)): Extension<Who>,
    Path(plugin): Path<String>,
    uri: Uri,
    body: Body,
) -> Response {
    match body {
        Ok(body) => respond(&site, who, shadow_of(plugin, &uri, &body)).await,
        Err(rejection) => rejection.into_response(),
    }
}

async fn rollback(
    State(site): State<Site>,
    Extension(Who(who)): Extension<Who>,
    Path(plugin): Path<String>,
) -> Response {
    respond(&site, who, Ok(Ask::Rollback { plugin })).await
}

async fn cancel(State(site): State<Site>, Extension(Who(who)): Extension<Who>, Path(plugin): Path<String>) -> Response {
    respond(&site, who, Ok(Ask::Cancel { plugin })).await
}

async fn promote(
    State(site): State<Site>,
    Extension(Who(who)): Extension<Who>,
    Path(plugin): Path<String>,
) -> Response {
    respond(&site, who, Ok(Ask::Promote { plugin })).await
}

async fn discard(
    State(site): State<Site>,
    Extension(Who(who)): Extension<Who>,
    Path(plugin): Path<String>,
) -> Response {
    respond(&site, who, Ok(Ask::Discard { plugin })).await
}

/// How the shadow of a plugin compares.
async fn report(State(site): State<Site>, Path(name): Path<String>) -> Response {
    let status = (site.status)();
    let plugin = status.plugins.iter().find(|plugin| plugin.name == name);
    if let Some(report) = plugin.and_then(|plugin| plugin.shadow.as_ref()) {
        return Json(report).into_response();
    }
    let message = if plugin.is_some() {
        format!("no shadow runs beside {name}")
    } else {
        let names: Vec<&str> = status.plugins.iter().map(|plugin| plugin.name.as_str()).collect();
        format!("there is no plugin {name:?}; there are {}", names.join(", "))
    };
    refused(&Refusal { kind: RefusalKind::NotFound, message })
}

fn swap_of(plugin: String, uri: &Uri, body: &Bytes) -> Result<Ask, String> {
    let mut query = Query::parse(uri.query().unwrap_or_default())?;
    let policy = query.take("policy").filter(|word| !word.is_empty());
    let policy = policy.map(|word| Policy::parse(&word)).transpose()?;
    let dry_run = query.take_switch("dry_run")?;
    let component = candidate(&mut query, body)?;
    query.finish("policy, dry_run and digest")?;
    Ok(Ask::Swap { plugin, component, policy, dry_run })
}

fn shadow_of(plugin: String, uri: &Uri, body: &Bytes) -> Result<Ask, String> {
    let mut query = Query::parse(uri.query().unwrap_or_default())?;
    let one = |(column, most): (String, String)| number(&most).map(|most| (column, most));
    let tolerance = query.take_all("tolerance.").into_iter().map(one).collect::<Result<_, _>>()?;
    let options = ShadowOptions {
        key_sample: query.take("key_sample").map(|share| number(&share)).transpose()?,
        next_windows: query.take_switch("next_windows")?,
        tolerance,
    };
    options.check()?;
    let component = candidate(&mut query, body)?;
    query.finish("key_sample, next_windows, tolerance.COLUMN and digest")?;
    Ok(Ask::Shadow { plugin, component, options })
}

/// The component that is meant: the body, or the one of a digest.
fn candidate(query: &mut Query, body: &Bytes) -> Result<Candidate, String> {
    match (query.take("digest"), body.is_empty()) {
        (None, false) => Ok(Candidate::Bytes(body.to_vec())),
        (Some(digest), true) => digest_of(&digest).map(Candidate::Digest),
        (None, true) => Err("no component: send its bytes as the body, or name one with digest=".into()),
        (Some(_), false) => Err("two components: send the body or digest=, not both".into()),
    }
}

/// A digest, or its beginning, as it is written everywhere.
fn digest_of(text: &str) -> Result<String, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits && (MIN_DIGEST_DIGITS..=64).contains(&text.len()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!(
            "{text:?} is not a digest; write its 64 hexadecimal digits, or at least the first {MIN_DIGEST_DIGITS}"
        ))
    }
}

/// Asks, and waits for the answer.
async fn respond(site: &Site, who: String, ask: Result<Ask, String>) -> Response {
    let ask = match ask {
        Ok(ask) => ask,
        Err(wrong) => return (StatusCode::BAD_REQUEST, wrong + "\n").into_response(),
    };
    let (reply, replies) = bounded(1);
    if let Err(error) = site.requests.try_send(Request { ask, who, reply }) {
        let message = match error {
            TrySendError::Full(_) => "too much is asked for at once; try again".into(),
            TrySendError::Disconnected(_) => "the pipeline is not running".into(),
        };
        return refused(&Refusal { kind: RefusalKind::Conflict, message });
    }
    // A thread of its own rather than the runtime's: at its end, the runtime would wait for that.
    let (pass_on, passed_on) = tokio::sync::oneshot::channel();
    let wait = move || {
        // Whoever asked may be gone.
        let _ = pass_on.send(replies.recv_timeout(ANSWER_WITHIN));
    };
    if let Err(error) = std::thread::Builder::new().name("api-reply".into()).spawn(wait) {
        return (StatusCode::INTERNAL_SERVER_ERROR, format!("no thread can be started: {error}\n")).into_response();
    }
    match passed_on.await {
        Ok(Ok(Ok(answer))) => Json(answer).into_response(),
        Ok(Ok(Err(refusal))) => refused(&refusal),
        Ok(Err(RecvTimeoutError::Timeout)) => {
            let said = format!(
                "no answer within {} s, and it may still happen; wasmill status says which version is in force\n",
                ANSWER_WITHIN.as_secs()
            );
            (StatusCode::GATEWAY_TIMEOUT, said).into_response()
        }
        Ok(Err(RecvTimeoutError::Disconnected)) | Err(_) => {
            let said = "the pipeline ended before it answered; after its next start, wasmill status says which version is \
                        in force\n";
            (StatusCode::SERVICE_UNAVAILABLE, said).into_response()
        }
    }
}

fn refused(refusal: &Refusal) -> Response {
    let code = match refusal.kind {
        RefusalKind::NotFound => StatusCode::NOT_FOUND,
        RefusalKind::Conflict => StatusCode::CONFLICT,
        RefusalKind::Unacceptable => StatusCode::UNPROCESSABLE_ENTITY,
        RefusalKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (code, Json(refusal)).into_response()
}

/// The method, the path with its query and the body that ask for this: what the routes above read.
pub(super) fn request_of(ask: &Ask) -> (&'static str, String, &[u8]) {
    use super::query::encode;
    let mut query = Vec::new();
    let mut bytes: &[u8] = &[];
    if let Ask::Swap { component, .. } | Ask::Shadow { component, .. } = ask {
        match component {
            Candidate::Bytes(component) => bytes = component,
            Candidate::Digest(digest) => query.push(format!("digest={}", encode(digest))),
        }
    }
    let (method, below) = match ask {
        Ask::Swap { policy, dry_run, .. } => {
            query.extend(policy.map(|policy| format!("policy={policy}")));
            query.extend(dry_run.then(|| "dry_run".to_owned()));
            ("PUT", "")
        }
        Ask::Rollback { .. } => ("POST", "/rollback"),
        Ask::Shadow { options, .. } => {
            query.extend(options.key_sample.map(|share| format!("key_sample={share}")));
            query.extend(options.next_windows.then(|| "next_windows".to_owned()));
            query.extend(options.tolerance.iter().map(|(name, most)| format!("tolerance.{}={most}", encode(name))));
            ("PUT", "/shadow")
        }
        Ask::Promote { .. } => ("POST", "/shadow/promote"),
        Ask::Discard { .. } => ("DELETE", "/shadow"),
        Ask::Cancel { .. } => ("DELETE", "/trial"),
    };
    let mark = if query.is_empty() { "" } else { "?" };
    (method, format!("/api/v1/plugins/{}{below}{mark}{}", encode(ask.plugin()), query.join("&")), bytes)
}

/// What a reply to an [`Ask`] says, by its code; `None` where it is none of wasmill's.
pub(super) fn reply_of(code: u16, body: &[u8]) -> Option<Reply> {
    if code == StatusCode::OK.as_u16() {
        serde_json::from_slice(body).ok().map(Ok)
    } else {
        serde_json::from_slice(body).ok().map(Err)
    }
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
