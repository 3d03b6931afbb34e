//! A WebSocket that says back what it hears (RFC 6455), just large enough for the sample's button.
//!
//! Short text frames alone: a longer or fragmented one ends the connection. Never here: who may open it.

use aws_lc_rs::digest;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Appended to the client's key before it is hashed (RFC 6455 section 1.3).
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const TEXT_FRAME: u8 = 0x81;
const CLOSE_FRAME: u8 = 0x88;

/// Takes the connection over, or answers 426 to a request that does not ask for it.
pub(super) fn upgrade(mut request: Request, name: String) -> Response {
    let key = request.headers().get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok()).map(str::to_owned);
    let asks =
        request.headers().get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let connection = request.extensions_mut().remove::<OnUpgrade>();
    let (Some(key), Some(connection), true) = (key, connection, asks) else {
        return (StatusCode::UPGRADE_REQUIRED, [(UPGRADE, "websocket")], "This address speaks WebSocket.\n")
            .into_response();
    };
    tokio::spawn(async move {
        if let Ok(connection) = connection.await {
            // The other side went away: there is nobody to tell.
            drop(echo(TokioIo::new(connection), &name).await);
        }
    });
    let accept = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{KEY_SUFFIX}").as_bytes());
    let headers = [
        (UPGRADE, "websocket".to_owned()),
        (CONNECTION, "Upgrade".to_owned()),
        (SEC_WEBSOCKET_ACCEPT, STANDARD.encode(accept)),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response()
}

/// Answers each text with the repository's name before it, until the other side closes.
async fn echo(mut connection: impl AsyncRead + AsyncWrite + Unpin, name: &str) -> io::Result<()> {
    loop {
        let [first, length] = read(&mut connection).await?;
        let mask: [u8; 4] = read(&mut connection).await?;
        // A client masks every frame, so the length's top bit is always set.
        let length = usize::from(length & 0x7f);
        if length > 125 {
            return connection.write_all(&[CLOSE_FRAME, 0]).await;
        }
        let mut text = vec![0; length];
        connection.read_exact(&mut text).await?;
        text.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        if first != TEXT_FRAME {
            return connection.write_all(&[CLOSE_FRAME, 0]).await;
        }
        let mut answer = format!("{name} heard: ").into_bytes();
        answer.extend_from_slice(&text);
        answer.truncate(125);
        let length = u8::try_from(answer.len()).unwrap_or(125);
        connection.write_all(&[&[TEXT_FRAME, length], answer.as_slice()].concat()).await?;
    }
}

async fn read<const N: usize>(connection: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    connection.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_masked_text_comes_back_with_the_name_and_a_close_ends_it() {
        let (mut browser, server) = tokio::io::duplex(1_024);
        let serving = tokio::spawn(echo(server, "acme/secret"));
        browser.write_all(&[TEXT_FRAME, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2]).await.unwrap();
        let mut answer = [0; 2 + 21];
        browser.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer[2..], b"acme/secret heard: hi");
        browser.write_all(&[CLOSE_FRAME, 0x80, 0, 0, 0, 0]).await.unwrap();
        serving.await.unwrap().unwrap();
    }
}
