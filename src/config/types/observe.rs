//! Settings: what is told to those who watch the daemon.

use std::fmt;

/// What is told to those who watch the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObserveConfig {
    /// The collector of traces.
    pub otlp: Otlp,
}

/// Where the traces of runs go: OTLP over HTTP, in protobuf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// Base of the collector's addresses; traces go to `/v1/traces` below it.
    pub endpoint: Option<String>,
    /// The whole address for traces, where it is not below the base.
    pub traces_endpoint: Option<String>,
    /// Headers of each request; keys of vendors stand in them.
    pub headers: OtlpHeaders,
    /// As whom the daemon tells.
    pub service_name: String,
}

impl Default for Otlp {
    fn default() -> Otlp {
        Otlp {
            endpoint: None,
            traces_endpoint: None,
            headers: OtlpHeaders::default(),
            service_name: "adwd".to_owned(),
        }
    }
}

impl Otlp {
    /// Where traces are sent; `None` where they are not.
    #[must_use]
    pub fn traces_url(&self) -> Option<String> {
        let below = |base: &String| format!("{}/v1/traces", base.trim_end_matches('/'));
        self.traces_endpoint.clone().or_else(|| self.endpoint.as_ref().map(below))
    }
}

/// Names and values of headers. The values are secrets: no form of this type shows them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OtlpHeaders(Vec<(String, String)>);

impl OtlpHeaders {
    /// These headers.
    #[must_use]
    pub fn new(headers: Vec<(String, String)>) -> OtlpHeaders {
        OtlpHeaders(headers)
    }

    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Display for OtlpHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masked: Vec<String> =
            self.0.iter().map(|(name, _)| format!("{name}={}", crate::telemetry::MASK)).collect();
        f.write_str(&masked.join(","))
    }
}

impl fmt::Debug for OtlpHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OtlpHeaders({self})")
    }
}
