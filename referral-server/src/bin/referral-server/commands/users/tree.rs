//! Tree of invitations below a user.

use referral_core::{Administration, FilterInput, ListUsers, PageSize, User};
use serde_json::{Value, json};

use crate::commands::{
    output::{Colors, Style},
    serve::Result,
    users::view::{UserJson, label},
};

/// Largest number of users in a printed tree. A terminal shows no more, and each user takes one query.
const MAX_USERS: usize = 10_000;

/// Limits of a printed tree.
#[derive(Clone, Copy)]
pub(crate) struct TreeLimits {
    /// Number of levels below the first user.
    pub(crate) depth: u32,
    /// Largest number of invitees of each user.
    pub(crate) invitees: PageSize,
}

/// User in the tree, with the invitees that are printed.
pub(crate) struct Node {
    user: User,
    /// Indexes of the invitees in [`Tree::nodes`].
    invitees: Vec<usize>,
}

/// Tree of invitations.
pub(crate) struct Tree {
    /// All users, level by level. The first one is the root.
    nodes: Vec<Node>,
    /// Largest number of invitees of each user.
    limit: usize,
}

/// Returns the newest users that a user invited.
async fn invitees(host: &Administration, user: &User, limit: PageSize) -> Result<Vec<User>> {
    if user.invited_count == 0 {
        return Ok(Vec::new());
    }
    let filter = FilterInput { invited_by_code: Some(user.invite_code.as_str()), ..FilterInput::default() };
    Ok(host.find_users(ListUsers { limit, filter, ..ListUsers::default() }).await?.items)
}

/// Loads the tree below a user, level by level.
pub(crate) async fn load(host: &Administration, user: User, limits: TreeLimits) -> Result<Tree> {
    let mut nodes = vec![Node { user, invitees: Vec::new() }];
    let mut level = 0..1;
    for _ in 0..limits.depth {
        let start = nodes.len();
        for place in level {
            let found = invitees(host, &nodes[place].user, limits.invitees).await?;
            if nodes.len() + found.len() > MAX_USERS {
                return Err(format!(
                    "the tree has more than {MAX_USERS} users; lower --depth or --limit, or start at another user"
                )
                .into());
            }
            for user in found {
                let index = nodes.len();
                nodes[place].invitees.push(index);
                nodes.push(Node { user, invitees: Vec::new() });
            }
        }
        level = start..nodes.len();
    }
    Ok(Tree { nodes, limit: limits.invitees.get() as usize })
}

impl Tree {
    /// Returns the tree as nested JSON.
    pub(crate) fn to_json(&self) -> Value {
        self.node_json(0)
    }

    fn node_json(&self, place: usize) -> Value {
        let node = &self.nodes[place];
        let invitees: Vec<_> = node.invitees.iter().map(|place| self.node_json(*place)).collect();
        json!({ "user": UserJson::of(&node.user), "invitees": invitees })
    }

    /// Returns the lines of the tree.
    pub(crate) fn write(&self, colors: Colors) -> Vec<String> {
        let mut lines = vec![self.line(0, colors)];
        self.write_below(0, "", colors, &mut lines);
        lines
    }

    fn write_below(&self, place: usize, indent: &str, colors: Colors, lines: &mut Vec<String>) {
        let node = &self.nodes[place];
        let hidden = node.user.invited_count.saturating_sub(node.invitees.len() as u64);
        for (position, invitee) in node.invitees.iter().enumerate() {
            let is_last = hidden == 0 && position + 1 == node.invitees.len();
            let (branch, below) = if is_last { ("└── ", "    ") } else { ("├── ", "│   ") };
            lines.push(format!("{indent}{branch}{}", self.line(*invitee, colors)));
            self.write_below(*invitee, &format!("{indent}{below}"), colors, lines);
        }
        // The count of a user at the last level says that there are more.
        if hidden > 0 && !node.invitees.is_empty() {
            let text = hidden_invitees(hidden, node.invitees.len() < self.limit);
            lines.push(format!("{indent}└── {}", colors.paint(Style::Dim, &text)));
        }
    }

    fn line(&self, place: usize, colors: Colors) -> String {
        let user = &self.nodes[place].user;
        let style = if user.is_active { Style::Plain } else { Style::Alert };
        let mut line = colors.paint(style, &label(user));
        if !user.is_active {
            line.push_str(" (blocked)");
        }
        if user.invited_count > 0 {
            line.push_str(&colors.paint(Style::Dim, &format!(" – invited {}", user.invited_count)));
        }
        line
    }
}

/// Describes invitees that are not printed. Deleted users are in the count of their inviter, but not in lists.
pub(crate) fn hidden_invitees(number: u64, list_is_complete: bool) -> String {
    format!("{number} {}", if list_is_complete { "deleted or without a phone" } else { "more" })
}
