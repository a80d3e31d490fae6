use std::time::Duration;

use rtnetlink::Handle;
use tokio::task::JoinHandle;

use super::error::NetError;

/// How long the kernel has for the answer to one request. It answers at once, unless the answer was
/// dropped for want of memory: netlink-proto then waits for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// A connection to the kernel's routing netlink, served by a task that ends with it.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Netlink {
    /// Connects, in the network namespace of the calling thread. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn connect() -> Result<Self, NetError> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|source| NetError::Socket { what: "open a netlink socket", source })?;
        Ok(Self { handle, task: tokio::spawn(connection) })
    }

    /// For requests.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    #[cfg(test)]
    pub(super) fn close(&self) {
        self.task.abort();
    }
}

/// The answer to a request.
pub(super) async fn answer<T>(
    what: &'static str,
    request: impl Future<Output = Result<T, rtnetlink::Error>>,
) -> Result<T, NetError> {
    let answered = tokio::time::timeout(PATIENCE, request).await;
    let answered = answered.map_err(|_| NetError::NetlinkTimeout { what, patience: PATIENCE })?;
    answered.map_err(NetError::netlink(what))
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}
