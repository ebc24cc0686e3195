//! From the name of a tool to its answer: whether there is such a tool for this caller, who answers
//! it, and how a refusal is told.

use rmcp::model::{CallToolRequestParams, CallToolResponse};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};

use super::args::{clip, nearest};
use super::caller::says_it_is_the_shell;
use super::error::ToolError;
use super::server::AdwServer;
use super::tools::{self, Effect, Family, ToolDef};
use super::{access, audit, runs, steps, writing};
use crate::auth::{Action, Principal, Transport};
use crate::config::Toolset;

impl AdwServer {
    /// The tool, where the caller may use it here and now.
    fn tool(
        &self,
        name: &str,
        context: &RequestContext<RoleServer>,
    ) -> Result<&'static ToolDef, Refused> {
        let Some((def, _)) = self.catalogue().find(name) else {
            return Err(self.unknown_tool(name));
        };
        if !self.shown().exists(def.toolset()) || !self.principal().allows(def.action) {
            return Err(Refused::Tool(not_allowed(def, self.principal())));
        }
        if self.catalogue().is_off(def) && !self.is_shell(context) {
            return Err(Refused::Tool(ToolError::new(
                "disabled",
                format!("{name} is switched off: this daemon starts no runs over MCP"),
                "use `adwd trigger` in a shell, or switch it on in the daemon's configuration",
            )));
        }
        if !self.shown().answers(def.toolset()) {
            let set = def.toolset().as_str();
            return Err(Refused::Tool(ToolError::new(
                "disabled",
                format!(
                    "{name} is of toolset {set:?}; this connection chose {}",
                    self.shown().sets()
                ),
                format!(
                    "connect with that set too: /mcp?toolsets={0},{set} or `adwd stdio --toolsets {0},{set}`",
                    self.shown().sets()
                ),
            )));
        }
        Ok(def)
    }

    /// Whether a person's shell is asking. Only the owner reaches the socket, so what it says of
    /// itself there gives it nothing that `adwd trigger` would not; what `adwd stdio` carries is
    /// somebody's MCP client, whatever it calls itself.
    fn is_shell(&self, context: &RequestContext<RoleServer>) -> bool {
        self.principal().transport == Transport::Unix
            && !self.shown().is_bridged()
            && says_it_is_the_shell(context)
    }

    /// What a call of a tool answers that was let through.
    pub(super) async fn answer_call(
        &self,
        request: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let answer = match self.tool(&request.name, context) {
            Ok(def) => match def.family {
                Family::Runs => runs::calls::call(self, def, request, context).await,
                Family::Steps => {
                    let arguments = request.arguments.as_ref();
                    return Ok(steps::calls::call(self.steps(), def, arguments).await.into());
                }
                Family::Writing => writing::calls::call(self, def, request, context).await,
                Family::Access => access::calls::call(self, def, request).await,
                Family::Audit => audit::call(self, def, request).await,
            },
            Err(Refused::Tool(error)) => Err(error),
            Err(Refused::Protocol(error)) => return Err(error),
        };
        Ok(answer.unwrap_or_else(|error| refusal(request, error)))
    }

    fn unknown_tool(&self, name: &str) -> Refused {
        let names = self.catalogue().names(self.principal(), self.shown());
        let near = nearest(name, &names)
            .map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
        let message = format!("Unknown tool: {}{near}", clip(name));
        Refused::Protocol(ErrorData::invalid_params(message, None))
    }
}

/// Why a tool is not called: as a result for the model, or as a protocol error.
enum Refused {
    Tool(ToolError),
    Protocol(ErrorData),
}

/// What a caller is told whose tier is too low; the words for triggers are seed 002's. What is bound
/// to projects is told that, once its tier is no longer what is missing.
fn not_allowed(def: &ToolDef, principal: &Principal) -> ToolError {
    if let Some(names) = principal.scope.bound_to().filter(|_| principal.tier.allows(def.action)) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        return ToolError::new(
            "not_allowed",
            format!(
                "{} is not for this caller: it is bound to the projects {}, and {}",
                def.name,
                names.join(", "),
                match def.toolset() {
                    Toolset::Steps => "step workflows belong to no project",
                    Toolset::Writing => "series of books belong to no project",
                    Toolset::Adw | Toolset::Admin => "what is bound to projects manages nothing",
                }
            ),
            "use a key that is bound to no project (`adwd key create` without --project makes one)",
        );
    }
    let (tier, what) = match def.action {
        Action::Steer if def.effect == Effect::Starts => {
            ("Team", "trigger ADW workflows".to_owned())
        }
        Action::ManageProjects => ("Admin", "manage projects".to_owned()),
        Action::ManageKeys if def.family == Family::Audit => {
            ("Admin", "read the record of calls".to_owned())
        }
        Action::ManageKeys => ("Admin", "manage keys".to_owned()),
        Action::Read | Action::Steer | Action::NameTrigger => ("Team", format!("use {}", def.name)),
    };
    ToolError::new(
        "not_allowed",
        format!("{tier} tier required to {what}"),
        "use a key of that tier (`adwd key create` makes one), or connect through `adwd stdio` as the \
         daemon's own user",
    )
}

/// A refusal in the form that the tool's schema gives it.
pub(super) fn refusal(request: &CallToolRequestParams, error: ToolError) -> CallToolResponse {
    tracing::debug!(tool = %request.name, code = %error.code, "a tool refused");
    match tools::named(&request.name) {
        Some(def) if def.family == Family::Steps => {
            steps::calls::refusal(def, request.arguments.as_ref(), error).into()
        }
        _ => error.into_result().into(),
    }
}
