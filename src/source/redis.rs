//! Redis and Valkey: streams with consumer groups (at least once, counted once), channels (at most once).

mod clerk;
mod entry;
mod group;
mod position;
mod pubsub;
mod reader;
mod resp;
mod servers;
mod streams;
mod wire;

use super::SourceContext;
use super::standing::Standing;
use crate::config::schema::{RedisConfig, RedisInput, Scope};
use pubsub::Channels;
pub(crate) use servers::Access;
use std::collections::HashMap;
use streams::Streams;
use tokio_util::sync::CancellationToken;
pub(crate) use wire::Wire;

/// How a connection ended.
enum End {
    /// The server cannot be heard.
    Lost(String),
    /// A group or a stream is gone; the server is there.
    Again(String),
    /// The core has ended.
    Over,
}

/// What a refusal means to people, when they can do something about it.
fn lost(reason: String) -> End {
    let hint = if reason.contains("MOVED ") || reason.contains("CROSSSLOT") {
        "; the server is a node of a cluster (cluster: true)"
    } else if reason.contains("WRONGPASS") || reason.contains("NOAUTH") {
        "; see username, password and password_file of the source"
    } else {
        ""
    };
    End::Lost(format!("{reason}{hint}"))
}

/// What `sidewatch check` says of a source.
pub(super) fn guarantee(config: &RedisConfig) -> String {
    match &config.input {
        RedisInput::Channels { .. } => {
            "at most once: what is published while the connection is down is missed, each time counted as a gap".into()
        }
        RedisInput::Streams(options) => {
            let whom = match options.scope {
                Some(Scope::PerInstance) => "each instance hears everything",
                Some(Scope::Shared) | None => "instances share the group, each hears a part",
            };
            format!(
                "at least once, counted once: acknowledged when it stands in the checkpoint; group {}, consumer {}, {whom}",
                config.group(options),
                config.consumer(options)
            )
        }
    }
}

/// Listens until cancelled.
pub(super) async fn run(context: &SourceContext, config: &RedisConfig, cancel: &CancellationToken) {
    let listening = async {
        let access = Access { config: &config.access, base_dir: &context.base_dir, event_bytes: context.event_bytes };
        let mut standing = Standing::new(context);
        let mut listener = match &config.input {
            RedisInput::Streams(options) => Listener::Streams(Box::new(Streams::new(context, config, options))),
            RedisInput::Channels { channels, patterns } => {
                Listener::Channels(Channels { context, channels, patterns, names: HashMap::new() })
            }
        };
        loop {
            let end = match &mut listener {
                Listener::Streams(streams) => streams.session(&access, &mut standing).await,
                Listener::Channels(channels) => channels.session(&access, &mut standing).await,
            };
            match end {
                End::Lost(reason) => standing.lost(reason).await,
                End::Again(reason) => tracing::info!(source = %context.name, %reason, "connecting anew"),
                End::Over => return,
            }
            tokio::time::sleep(standing.next_wait()).await;
        }
    };
    // Nothing is lost by leaving off anywhere: what was not counted is not acknowledged, and comes again.
    tokio::select! {
        () = listening => {}
        () = cancel.cancelled() => {}
    }
}

enum Listener<'a> {
    Streams(Box<Streams<'a>>),
    Channels(Channels<'a>),
}
