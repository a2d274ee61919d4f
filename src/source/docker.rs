//! x
use super::SourceContext;
use tokio_util::sync::CancellationToken;
pub(super) async fn run(_context: &SourceContext, _config: &crate::config::schema::DockerConfig, _cancel: &CancellationToken) {}
