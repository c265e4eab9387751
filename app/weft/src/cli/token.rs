//! `weft token`: who may join, and as what.

use serde_json::{Value, json};
use weft_model::{Row, Token};
use weft_rpc::wire;

use super::Outcome;
use super::args::{Format, Listing, TokenCommand};
use super::client::Client;
use super::output;
use super::problem::Problem;
use super::rows;

pub(super) async fn run(mut local: Client, command: TokenCommand) -> Outcome {
    match command {
        TokenCommand::Create { role, lifetime, listing } => {
            let request = wire::CreateTokenRequest {
                role: role.to_string(),
                lifetime: lifetime.as_secs().max(1),
            };
            let reply = local.create_token(request).await?.into_inner();
            print_created(listing.output, &reply, &format!("A token for the role '{role}'."))
        }
        TokenCommand::Ls(listing) => list(local, listing).await,
        TokenCommand::Revoke { id } => {
            local.revoke_token(wire::RemoveRequest { name: id.clone() }).await?;
            output::print(&format!("Token {id} is refused from now on.\n"))
        }
    }
}

async fn list(mut local: Client, listing: Listing) -> Outcome {
    let tokens = rows::tokens(&mut local).await?;
    let lines = tokens.iter().map(|t| {
        let state = if t.revoked { "revoked" } else { "valid" };
        vec![t.id.to_string(), t.role.to_string(), state.to_owned(), output::moment(t.expires_at)]
    });
    let value: Value = tokens.iter().map(public).collect();
    output::listing(listing.output, &["ID", "ROLE", "STATE", "UNTIL"], lines, &value)
}

/// A token for listings: without the digest of its secret, which is nobody's business.
fn public(token: &Token) -> Value {
    json!({
        "id": token.id,
        "role": token.role,
        "expires_at": token.expires_at,
        "revoked": token.revoked,
    })
}

/// Prints a new token, this once, with the command that uses it.
pub(super) fn print_created(format: Format, reply: &wire::CreateTokenReply, what: &str) -> Outcome {
    let Row::Token(token) = rows::decode(reply.row.as_ref())? else {
        return Err(Problem::new("the daemon's answer is not a token"));
    };
    let command = format!("weft join {} --token {}", reply.address, reply.token);
    match format {
        Format::Json => {
            let mut value = public(&token);
            value["token"] = json!(reply.token);
            value["address"] = json!(reply.address);
            value["command"] = json!(command);
            output::json(&value)
        }
        Format::Table => output::print(&format!(
            "{what} On every other host, start the daemon and run:\n\n    {command}\n\nThe token is good until \
             {} and is not shown again; `weft token create` makes another.\n",
            output::moment(token.expires_at)
        )),
    }
}
