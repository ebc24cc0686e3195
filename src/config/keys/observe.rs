//! What is told to those who watch the daemon.
//!
//! The variables are those of OpenTelemetry's specification, "OTLP Exporter Configuration"; there
//! an empty one is as good as none.

use super::*;
use crate::config::types::OtlpHeaders;

pub(super) static KEYS: &[Key] = &[
    key(
        "otlp.endpoint",
        &["OTEL_EXPORTER_OTLP_ENDPOINT", "ADWD_OTLP_ENDPOINT"],
        |c, v, _| {
            c.observe.otlp.endpoint = address(v)?;
            Ok(())
        },
        |c| c.observe.otlp.endpoint.clone().unwrap_or_default(),
    ),
    key(
        "otlp.traces_endpoint",
        &["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ADWD_OTLP_TRACES_ENDPOINT"],
        |c, v, _| {
            c.observe.otlp.traces_endpoint = address(v)?;
            Ok(())
        },
        |c| c.observe.otlp.traces_endpoint.clone().unwrap_or_default(),
    ),
    key(
        "otlp.headers",
        &["OTEL_EXPORTER_OTLP_HEADERS", "ADWD_OTLP_HEADERS"],
        |c, v, _| {
            c.observe.otlp.headers = headers(&v.text()?)?;
            Ok(())
        },
        |c| c.observe.otlp.headers.to_string(),
    ),
    key(
        "otlp.service_name",
        &["OTEL_SERVICE_NAME", "ADWD_OTLP_SERVICE_NAME"],
        |c, v, _| {
            let name = v.text()?;
            if !name.trim().is_empty() {
                c.observe.otlp.service_name = name;
            }
            Ok(())
        },
        |c| c.observe.otlp.service_name.clone(),
    ),
];

fn address(input: &Input) -> Result<Option<String>, String> {
    let text = input.text()?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let expected =
        || "expected http://HOST:PORT or https://HOST (OTLP over HTTP, port 4318)".to_owned();
    let url = reqwest::Url::parse(&text).map_err(|_| expected())?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(Some(text)),
        _ => Err(expected()),
    }
}

/// `name=value,name=value`, values percent-encoded as in W3C baggage.
fn headers(text: &str) -> Result<OtlpHeaders, String> {
    let expected =
        || "expected name=value,name=value with names and values of HTTP headers".to_owned();
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').ok_or_else(expected)?;
        let (name, value) = (name.trim().to_ascii_lowercase(), decoded(value.trim()));
        let fits = reqwest::header::HeaderName::try_from(&name).is_ok()
            && reqwest::header::HeaderValue::try_from(&value).is_ok();
        fits.then_some((name, value)).ok_or_else(expected)
    });
    Ok(OtlpHeaders::new(pairs.collect::<Result<_, _>>()?))
}

/// Undoes percent-encoding; a `%` that begins none stands for itself.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let is_hex = |hex: &&[u8]| *first == b'%' && hex.iter().all(u8::is_ascii_hexdigit);
        let code = after.get(..2).filter(is_hex);
        let code = code.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_the_specification_writes_them_and_never_shown() {
        let read = headers("X-Api-Key=abc%20d, b=100%").unwrap();
        let pairs: Vec<_> = read.iter().collect();
        assert_eq!(pairs, [("x-api-key", "abc d"), ("b", "100%")]);
        assert_eq!(read.to_string(), "x-api-key=***,b=***");
        assert_eq!(format!("{read:?}"), "OtlpHeaders(x-api-key=***,b=***)");
        assert!(headers("novalue").is_err() && headers("a b=c").is_err());
        assert!(headers("a=b%0d%0ac: d").is_err(), "a header may not smuggle another one");
        assert_eq!(headers("").unwrap().iter().count(), 0);
    }
}
