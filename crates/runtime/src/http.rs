//! Telling an address something: JSON by POST.

use std::time::Duration;

use serde_json::Value;

use crate::settings::Secret;

/// How long the other side may take.
const REQUEST_TIME: Duration = Duration::from_secs(10);

/// Nobody took it. The text does not name the address: whoever knows it can write there.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// It could not be sent, or was not answered in time.
    #[error("it cannot be sent: {0}; check the address, and that it can be reached from here")]
    Unsent(String),
    /// The answer is no.
    #[error("the other side answers with status {0}; check the address")]
    Refused(u16),
}

/// Posts JSON.
///
/// # Errors
///
/// It was not taken.
pub async fn post_json(address: &Secret, body: &Value) -> Result<(), PostError> {
    let unsent = |error: reqwest::Error| PostError::Unsent(reason(error));
    let client = reqwest::Client::builder().timeout(REQUEST_TIME).build().map_err(unsent)?;
    let answer = client.post(address.expose()).json(body).send().await.map_err(unsent)?;
    if answer.status().is_success() { Ok(()) } else { Err(PostError::Refused(answer.status().as_u16())) }
}

/// The innermost cause, which says most.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_not_told() {
        // Nobody listens on a port that was given back.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for address in [format!("http://127.0.0.1:{port}/secret"), "no address/secret".to_owned()] {
            let error = post_json(&Secret::new(address), &Value::Null).await.unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }
}
