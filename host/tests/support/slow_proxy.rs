//! A way to the broker that is slow: each connection gives so many bytes a second.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// What the broker sends comes in pieces of this size, bytes, with [`PAUSE`] between.
const PIECE: usize = 16 << 10;

/// With [`PIECE`]: 400 KB a second.
const PAUSE: Duration = Duration::from_millis(40);

/// A port that leads to a broker's second listener. Its threads end with the connections.
pub(crate) struct SlowProxy {
    listener: TcpListener,
    broker: AtomicU16,
}

impl SlowProxy {
    /// Takes a port; nobody is let in yet.
    pub(crate) fn bind() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap(), broker: AtomicU16::new(0) }
    }

    /// Settings of a broker on that port whose second listener is reached through this one.
    pub(crate) fn listener(&self, port: u16) -> String {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        self.broker.store(free, Ordering::SeqCst);
        let (plain, controller) = (format!("PLAINTEXT://127.0.0.1:{port}"), port + 1);
        format!(
            "listeners={plain},SLOW://127.0.0.1:{free},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners={plain},SLOW://{}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SLOW:PLAINTEXT\n\
             inter.broker.listener.name=PLAINTEXT\n",
            self.bootstrap()
        )
    }

    /// `host:port` for slow clients.
    pub(crate) fn bootstrap(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// Lets clients in, until the process ends.
    pub(crate) fn start(&self) {
        let (listener, broker) = (self.listener.try_clone().unwrap(), self.broker.load(Ordering::SeqCst));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(broker)) = (client, TcpStream::connect(("127.0.0.1", broker))) else { return };
                let (from, to) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
                std::thread::spawn(move || carry(from, to, Duration::ZERO));
                std::thread::spawn(move || carry(broker, client, PAUSE));
            }
        });
    }
}

/// Carries bytes until either end is closed.
fn carry(mut from: TcpStream, mut to: TcpStream, pause: Duration) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        std::thread::sleep(pause);
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    // The other direction ends too.
    let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
}
