//! A door in front of a server, which can be shut or stuck: the network between it and whoever goes through.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

/// Passes every connection on to the server, or none. Ends with the test's process.
pub struct Proxy {
    address: SocketAddr,
    door: Arc<Mutex<Door>>,
    is_stuck: Arc<AtomicBool>,
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
        let is_stuck = Arc::new(AtomicBool::new(false));
        let shared = (Arc::clone(&door), Arc::clone(&is_stuck));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let ((door, is_stuck), server) = (shared.clone(), server.clone());
                std::thread::spawn(move || pass(&door, &client, &server, &is_stuck));
            }
        });
        Ok(Self { address, door, is_stuck })
    }

    /// Its port on this machine.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Lets nothing through in either direction while connections stay open, as lost packets do; or lets all go on.
    pub fn stick(&self, is_stuck: bool) {
        self.is_stuck.store(is_stuck, Ordering::Relaxed);
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

/// Passes bytes on, unless the door is stuck, until either side ends.
fn carry(mut from: &TcpStream, mut to: &TcpStream, is_stuck: &AtomicBool) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        while is_stuck.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
}

/// Whatever goes wrong here closes the connection, which the client sees.
fn pass(door: &Mutex<Door>, client: &TcpStream, server: &str, is_stuck: &Arc<AtomicBool>) -> Option<()> {
    let mut door = door.lock().unwrap_or_else(PoisonError::into_inner);
    if door.is_shut {
        return client.shutdown(Shutdown::Both).ok();
    }
    let upstream = TcpStream::connect(server).ok()?;
    door.open.extend([client.try_clone().ok()?, upstream.try_clone().ok()?]);
    drop(door);
    let (from, to, stuck) = (client.try_clone().ok()?, upstream.try_clone().ok()?, Arc::clone(is_stuck));
    std::thread::spawn(move || carry(&from, &to, &stuck));
    carry(&upstream, client, is_stuck);
    Some(())
}
