//! A door in front of a server, which can be shut: the network between it and whoever goes through.

use std::io::copy;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

/// Passes every connection on to the server, or none. Ends with the test's process.
pub struct Proxy {
    address: SocketAddr,
    door: Arc<Mutex<Door>>,
}

#[derive(Default)]
struct Door {
    is_shut: bool,
    open: Vec<TcpStream>,
}

impl Proxy {
    /// Listens on a free port; `server` is host and port.
    ///
    /// # Errors
    ///
    /// No port is free.
    pub fn start(server: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let door = Arc::new(Mutex::new(Door::default()));
        let shared = Arc::clone(&door);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (door, server) = (Arc::clone(&shared), server.clone());
                std::thread::spawn(move || pass(&door, &client, &server));
            }
        });
        Ok(Self { address, door })
    }

    /// Its port on this machine.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Breaks all connections and lets no new ones through, or lets them through again.
    pub fn shut(&self, is_shut: bool) {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        door.is_shut = is_shut;
        for stream in door.open.drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

/// Whatever goes wrong here closes the connection, which the client sees.
fn pass(door: &Mutex<Door>, client: &TcpStream, server: &str) -> Option<()> {
    let mut door = door.lock().unwrap_or_else(PoisonError::into_inner);
    if door.is_shut {
        return client.shutdown(Shutdown::Both).ok();
    }
    let upstream = TcpStream::connect(server).ok()?;
    door.open.extend([client.try_clone().ok()?, upstream.try_clone().ok()?]);
    drop(door);
    let (mut from, mut to) = (client.try_clone().ok()?, upstream.try_clone().ok()?);
    std::thread::spawn(move || {
        copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Both).ok();
    });
    copy(&mut &upstream, &mut &*client).ok();
    client.shutdown(Shutdown::Both).ok()
}
