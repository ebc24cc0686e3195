//! Plain HTTP for the tests of what the daemon tells.

use std::collections::BTreeMap;

use serde_json::Value;

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }

    /// The check of that name in a report.
    pub fn check(&self, name: &str) -> Value {
        let report = self.json();
        let all = report["checks"].as_array().unwrap();
        let found = all.iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("no check {name} in {report:#}")).clone()
    }
}

/// Sends a request and reads the answer.
pub async fn send(method: &str, url: &str, headers: &[(&str, &str)]) -> Answer {
    adwd::tls::install();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.request(method.parse().unwrap(), url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap().to_owned();
    let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value)));
    Answer {
        status: answer.status().as_u16(),
        headers: headers.collect(),
        body: answer.text().await.unwrap(),
    }
}

/// Reads an address.
pub async fn get(url: &str) -> Answer {
    send("GET", url, &[]).await
}
