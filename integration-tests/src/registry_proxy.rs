//! The stack's registry behind a door that can be broken: a fault that a real registry does not show when asked.

use std::io::{Read, Write, copy, sink};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::stack;

/// What a broken registry says.
const BROKEN: &str = "{\"error_code\":50001,\"message\":\"the store is broken\"}";

/// Passes everything on to the registry, or answers 500. Ends with the test's process.
pub struct RegistryProxy {
    address: SocketAddr,
    path: String,
    door: Arc<Door>,
}

#[derive(Default)]
struct Door {
    broken: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl RegistryProxy {
    /// Listens on a free port.
    ///
    /// # Errors
    ///
    /// The registry's address is missing or has another form.
    pub fn start() -> Result<Self> {
        let url = stack::variable("SCHEMA_REGISTRY_URL")?;
        let rest = url.strip_prefix("http://").context("the stack's registry speaks http")?;
        let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (server, path) = (server.to_owned(), path.to_owned());
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let door = Arc::new(Door::default());
        let shared = Arc::clone(&door);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (door, server) = (Arc::clone(&shared), server.clone());
                std::thread::spawn(move || door.pass(client, &server));
            }
        });
        Ok(Self { address, path, door })
    }

    /// For `schema_registry.url`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/{}", self.address, self.path)
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on every request is answered with 500, or passed on again.
    pub fn break_down(&self, broken: bool) {
        self.door.broken.store(broken, Ordering::SeqCst);
        // Connections that are kept would go on as they were.
        for stream in self.door.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Door {
    /// Whatever goes wrong here closes the connection, which the client sees.
    fn pass(&self, mut client: TcpStream, server: &str) -> Option<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.broken.load(Ordering::SeqCst) {
            drop(open);
            let begun = client.read(&mut [0; 65_536]).ok()?;
            let length = BROKEN.len();
            write!(
                client,
                "HTTP/1.1 500 Internal Server Error\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{BROKEN}"
            )
            .ok()
            .filter(|()| begun > 0)?;
            // What is still on its way must not meet a closed connection, which would take the answer back.
            client.shutdown(Shutdown::Write).ok()?;
            return copy(&mut client, &mut sink()).ok().map(|_| ());
        }
        let mut upstream = TcpStream::connect(server).ok()?;
        open.extend([client.try_clone().ok()?, upstream.try_clone().ok()?]);
        drop(open);
        let (mut from, mut to) = (client.try_clone().ok()?, upstream.try_clone().ok()?);
        std::thread::spawn(move || {
            copy(&mut from, &mut to).ok();
            to.shutdown(Shutdown::Write).ok();
        });
        copy(&mut upstream, &mut client).ok();
        client.shutdown(Shutdown::Both).ok()
    }
}
