//! The routes.

#[cfg(test)]
mod tests;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use pgha_machine::failover::record::Takeover;
use tokio::sync::{mpsc, oneshot};

use super::chronicle::{self, Place};
use super::{
    Asked, CLEAR, ClearReply, ClearRequest, FailoverReply, FailoverRequest, FailoverStatus,
    HISTORY, PATH, SCHEMA,
};
use crate::controller::api::{json, read, refused};
use crate::controller::status::Refusal;
use crate::rpc::server::Caller;

/// What the routes need.
#[derive(Clone, Debug)]
struct Needs {
    /// Nobody, where this controller manages no node.
    asked: Option<mpsc::Sender<Asked>>,
    history: Place,
}

/// The routes of a controller. They answer also where it manages no node: that is what they say then.
pub(in crate::controller) fn router(asked: Option<mpsc::Sender<Asked>>, history: Place) -> Router {
    Router::new()
        .route(PATH, get(look).post(order))
        .route(HISTORY, get(terms))
        .route(CLEAR, post(clear))
        .with_state(Needs { asked, history })
}

/// Asks the coordinator.
async fn ask<T>(
    asked: Option<&mpsc::Sender<Asked>>,
    question: impl FnOnce(oneshot::Sender<T>) -> Asked,
) -> Result<T, Response> {
    let Some(asked) = asked else {
        let error =
            "this controller decides about no failover: its configuration has no managed node, no \
                     [[controller]] of its own, or no [api] listen"
                .to_owned();
        return Err(refused(StatusCode::NOT_FOUND, Refusal { error }));
    };
    let (reply, replied) = oneshot::channel();
    if asked.send(question(reply)).await.is_ok()
        && let Ok(replied) = replied.await
    {
        return Ok(replied);
    }
    let error = "the coordinator of failover has ended; see the controller's log".to_owned();
    Err(refused(StatusCode::SERVICE_UNAVAILABLE, Refusal { error }))
}

async fn look(State(needs): State<Needs>) -> Response {
    json::<FailoverStatus>(ask(needs.asked.as_ref(), Asked::Look).await)
}

async fn order(
    State(needs): State<Needs>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<FailoverRequest>, JsonRejection>,
) -> Response {
    let wrong = |code, error| refused(code, Refusal { error });
    let request = match read(body) {
        Ok(request) => request,
        Err(response) => return response,
    };
    let takeover = match (request.to, request.accept_data_loss) {
        (None, false) => Takeover::Best,
        (Some(node), false) => Takeover::To(node),
        (Some(node), true) => Takeover::Force(node),
        (None, true) => {
            let error = "say with `to` which node is to be forced".to_owned();
            return wrong(StatusCode::UNPROCESSABLE_ENTITY, error);
        }
    };
    let by = caller.name().to_owned();
    let answered = ask(needs.asked.as_ref(), |reply| Asked::Order(takeover, by, reply)).await;
    match answered {
        Ok(Ok(accepted)) => {
            let (epoch, freeze) = (accepted.epoch, accepted.freeze);
            json(Ok(FailoverReply { schema: SCHEMA, epoch, freeze }))
        }
        Ok(Err(declined)) => wrong(StatusCode::CONFLICT, declined.to_string()),
        Err(response) => response,
    }
}

async fn clear(
    State(needs): State<Needs>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<ClearRequest>, JsonRejection>,
) -> Response {
    let request = match read(body) {
        Ok(request) => request,
        Err(response) => return response,
    };
    let (node, by) = (request.node.clone(), caller.name().to_owned());
    match ask(needs.asked.as_ref(), |reply| Asked::Clear(node, by, reply)).await {
        Ok(told) if told.is_empty() => {
            let node = request.node.map_or_else(|| "nobody".to_owned(), |node| node.to_string());
            let error = format!("{node} is no managed node; pgha status lists them");
            refused(StatusCode::UNPROCESSABLE_ENTITY, Refusal { error })
        }
        Ok(told) => json(Ok(ClearReply { schema: SCHEMA, told })),
        Err(response) => response,
    }
}

async fn terms(State(needs): State<Needs>) -> Response {
    match chronicle::read(&needs.history).await {
        Ok(history) => json(Ok(history)),
        Err(error) => refused(StatusCode::SERVICE_UNAVAILABLE, Refusal::of(error)),
    }
}
