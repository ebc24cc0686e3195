//! A panic on demand, for tests of what a crash tells. Not in release builds.

use rmcp::model::CallToolRequestParams;

/// Environment variable that names a tool: each call of it panics, with its arguments as the message.
const VARIABLE: &str = "ADWD_TEST_PANIC";

/// Panics where the variable names the tool.
pub(super) fn panic_where_asked(request: &CallToolRequestParams) {
    if std::env::var_os(VARIABLE).is_some_and(|tool| tool == request.name.as_ref()) {
        panic!("as {VARIABLE} asks: {:?}", request.arguments);
    }
}
