//! Addresses of resources, of every family.

use adwd::changes::Changed;
use adwd::mcp::address::Address;

use super::text;

/// What holds whatever the bytes are.
pub fn read(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let Ok(address) = Address::parse(text) else { return };
    let printed = match &address {
        Address::Run(uri) => uri.to_string(),
        Address::Step(uri) => uri.to_string(),
        Address::Writing(uri) => uri.to_string(),
        Address::Health => return,
    };
    // What is understood can be said again, and means the same.
    assert_eq!(Address::parse(&printed), Ok(address.clone()), "{text:?} {printed:?}");
    assert!(printed.bytes().all(|byte| byte.is_ascii_graphic()), "{printed:?}");
    let _ = (address.toolset(), address.shows(&Changed::Content));
}
