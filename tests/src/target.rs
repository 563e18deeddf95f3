//! Something to scrape.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// A target that serves whatever text it is given, until the test ends.
pub struct Target {
    address: String,
    text: Arc<Mutex<String>>,
}

impl Target {
    /// Serves `text` on a free port.
    ///
    /// # Panics
    /// If there is none.
    pub fn start(text: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address").to_string();
        let text = Arc::new(Mutex::new(text.to_owned()));
        let served = Arc::clone(&text);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let _ = stream.read(&mut [0; 4096]);
                let body = served.lock().expect("text").clone();
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.write_all(body.as_bytes());
            }
        });
        Self { address, text }
    }

    /// `host:port`
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Serves another text from now on.
    ///
    /// # Panics
    /// If the serving thread did.
    pub fn now_serves(&self, text: &str) {
        text.clone_into(&mut self.text.lock().expect("text"));
    }
}
