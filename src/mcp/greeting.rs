//! The line by which `adwd stdio` introduces a connection, read before the first message.
//!
//! It cannot be taken for a message: JSON begins otherwise. A client that says nothing of the kind
//! is served from its first byte on.

use tokio::io::{AsyncRead, AsyncReadExt};

use super::bounds::HELLO_MAX_BYTES;
use super::shown::{HELLO, Hello};

/// How a connection began.
#[derive(Debug, PartialEq, Eq)]
pub struct Greeting {
    /// What it said of itself; nothing, where it began with a message.
    pub hello: Hello,
    /// What has been read beyond that.
    pub rest: Vec<u8>,
}

/// Reads until it is clear how the connection begins. An end or an error of the input is left to
/// whoever reads on.
///
/// # Errors
/// What is wrong with the line, and what would be right.
pub async fn read(input: &mut (impl AsyncRead + Unpin)) -> Result<Greeting, String> {
    let mut rest = Vec::with_capacity(HELLO_MAX_BYTES);
    loop {
        let common = rest.len().min(HELLO.len());
        let may_be = rest[..common] == HELLO.as_bytes()[..common];
        if !may_be {
            return Ok(Greeting { hello: Hello::default(), rest });
        }
        if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&rest[..end]).into_owned();
            rest.drain(..=end);
            return Ok(Greeting { hello: Hello::parse(&line)?, rest });
        }
        if rest.len() >= HELLO_MAX_BYTES {
            return Err(format!("the first line may have {HELLO_MAX_BYTES} bytes"));
        }
        let mut more = [0_u8; HELLO_MAX_BYTES];
        let room = HELLO_MAX_BYTES - rest.len();
        match input.read(&mut more[..room]).await {
            Ok(count @ 1..) => rest.extend_from_slice(&more[..count]),
            _ => return Ok(Greeting { hello: Hello::default(), rest }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::config::Toolsets;

    /// What is read of an input that comes in pieces, and what is left of it.
    fn greeted(pieces: &[&[u8]]) -> (Result<Hello, String>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut near, mut far) = tokio::io::duplex(1);
            let writing = async {
                for piece in pieces {
                    // The reader may have had enough.
                    let _ = near.write_all(piece).await;
                }
                drop(near);
            };
            let reading = async {
                let greeting = read(&mut far).await;
                let mut rest = Vec::new();
                far.read_to_end(&mut rest).await.unwrap();
                match greeting {
                    Ok(Greeting { hello, rest: begun }) => (Ok(hello), [begun, rest].concat()),
                    Err(why) => (Err(why), rest),
                }
            };
            tokio::join!(writing, reading).1
        })
    }

    #[test]
    fn a_hello_is_taken_off_and_a_message_is_left_whole() {
        let hello = Hello::of_bridge(Some(Toolsets::parse("adw").unwrap()));
        let message = b"{\"jsonrpc\":\"2.0\"}\n";
        let (read, rest) = greeted(&[hello.line().as_bytes(), message]);
        assert_eq!((read, rest.as_slice()), (Ok(hello), &message[..]));
        let (read, rest) = greeted(&[message]);
        assert_eq!((read, rest.as_slice()), (Ok(Hello::default()), &message[..]));
        assert_eq!(greeted(&[]), (Ok(Hello::default()), Vec::new()));
        assert_eq!(greeted(&[b"adwd-he"]).1, b"adwd-he", "an end in the middle is no hello");
    }

    #[test]
    fn a_line_without_end_is_refused_at_its_bound() {
        let (read, _) = greeted(&[HELLO.as_bytes(), &[b'x'; 10 * HELLO_MAX_BYTES]]);
        assert!(read.unwrap_err().contains("512"));
        assert!(greeted(&[b"adwd-hello stdio toolsets=books\n"]).0.unwrap_err().contains("known"));
    }

    proptest! {
        #[test]
        fn whatever_does_not_begin_like_a_hello_loses_no_byte(
            bytes in proptest::collection::vec(any::<u8>(), 0..1500)
        ) {
            prop_assume!(!bytes.starts_with(b"a"));
            let (read, rest) = greeted(&[&bytes]);
            prop_assert_eq!((read, rest), (Ok(Hello::default()), bytes));
        }
    }
}
