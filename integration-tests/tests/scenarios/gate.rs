//! Scenarios that restart servers run alone; all others run together.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static SERVERS: RwLock<()> = RwLock::const_new(());

/// Held by a scenario that needs the servers to stay up.
pub(crate) async fn shared() -> RwLockReadGuard<'static, ()> {
    SERVERS.read().await
}

/// Held by a scenario that stops servers.
pub(crate) async fn alone() -> RwLockWriteGuard<'static, ()> {
    SERVERS.write().await
}
