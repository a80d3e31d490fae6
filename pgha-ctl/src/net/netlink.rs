use rtnetlink::Handle;
use tokio::task::JoinHandle;

use super::error::NetError;

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
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}
