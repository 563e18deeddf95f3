//! A websocket client of a few lines: what a tail needs, and no more.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long a frame may take.
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// Text.
    Text(String),
    /// The end: code and reason.
    Close(u16, String),
}

/// An open websocket.
pub struct WebSocket {
    stream: TcpStream,
}

impl WebSocket {
    /// Opens one; `Err` holds the head and body of the answer if the server refuses.
    ///
    /// # Panics
    /// If there is no server.
    pub fn open(address: &str, path: &str, headers: &[(&str, &str)]) -> Result<Self, String> {
        let mut stream = TcpStream::connect(address).expect("connect");
        stream
            .set_read_timeout(Some(FRAME_TIMEOUT))
            .expect("timeout");
        let mut head = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).expect("send the head");
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("an answer");
            answer.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&answer).into_owned();
        if text.starts_with("HTTP/1.1 101 ") {
            return Ok(Self { stream });
        }
        let length = text.to_lowercase();
        let length = length
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.and_then(|l| l.trim().parse().ok()).unwrap_or(0)];
        stream.read_exact(&mut body).expect("the body");
        Err(text + &String::from_utf8_lossy(&body))
    }

    /// The next frame; pings are passed over.
    ///
    /// # Errors
    /// The connection ended, or nothing came.
    pub fn receive(&mut self) -> io::Result<Frame> {
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head)?;
            let length = match head[1] & 127 {
                126 => {
                    let mut bytes = [0; 2];
                    self.stream.read_exact(&mut bytes)?;
                    usize::from(u16::from_be_bytes(bytes))
                }
                127 => {
                    let mut bytes = [0; 8];
                    self.stream.read_exact(&mut bytes)?;
                    u64::from_be_bytes(bytes) as usize
                }
                short => usize::from(short),
            };
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body)?;
            match head[0] & 15 {
                1 => return Ok(Frame::Text(String::from_utf8_lossy(&body).into_owned())),
                8 => {
                    let code = body
                        .get(..2)
                        .map_or(0, |c| u16::from_be_bytes([c[0], c[1]]));
                    let reason = String::from_utf8_lossy(body.get(2..).unwrap_or(&[]));
                    return Ok(Frame::Close(code, reason.into_owned()));
                }
                _ => {}
            }
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection ended.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }
}
