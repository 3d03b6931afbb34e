//! Every page in its states, for the tests below and for looking at.

use doorward_core::access_token::new_access_token;
use doorward_core::audit_event::AuditAction;
use doorward_core::connection::{ConnectionState, Enforcement};
use doorward_core::error_code::ErrorCode;
use doorward_core::finding::{Finding, Step};
use doorward_core::membership::Role;
use doorward_core::recovery_code::recovery_code;
use doorward_core::time::Timestamp;

use super::access_tokens::{AccessTokensPage, NewTokenPage, Reach, ReachLine, TokenLine, TokenMadePage};
use super::account::{AccountEmailLine, AccountPage, SessionLine};
use super::account_delete::{AccountDeletePage, Obstacle, TieLine};
use super::answer::{Action, ErrorPage};
use super::audit_log::{AuditLine, AuditLogPage};
use super::home::{HomeOrganization, HomePage, HomeSso};
use super::join::{JoinBy, JoinConfirmPage, JoinPage, SignUpPage};
use super::join_link::{JoinLinkCard, JoinLinkShown};
use super::link_requests::{LinkLine, RequestLine};
use super::members::{InvitationLine, InvitationMadePage, LeavePage, MemberLine, MembersPage, Typed};
use super::organization::{GeneralSettingsPage, NewOrganizationPage};
use super::organization_tokens::{OrganizationTokensPage, ReachingLine};
use super::recovery::{RecoverPage, RecoveryCodesPage};
use super::sign_in::{FirstOperatorPage, SignInPage, SignOutPage};
use super::sso_link::{Question, SsoLinkPage};
use super::sso_settings::{
    EnableCard, IdentityShown, LinkVerdict, LiveCard, OidcForm, ProviderFound, SsoSettingsPage, StoredSecret,
    TestAgain, TestShown, step_lines,
};
use super::sso_start::{GoingOnPage, SsoStartPage};
use super::sso_users::{CollaboratorLine, SsoUsersPage, TypedCollaborator};
use crate::web::page::{Done, Fault, Frame, Moment, OrganizationHead, Problem, Problems, Tab};

/// A text that would break out of any place that forgets to escape.
pub(super) const HOSTILE: &str = "\"'><script>alert(1)</script>&amp;";

fn frame() -> Frame {
    Frame { base: "/door".to_owned(), account: Some("mira".to_owned()), ..Frame::default() }
}

fn nobody() -> Frame {
    Frame { account: None, ..frame() }
}

fn at(minutes: i64) -> Moment {
    Timestamp::from_seconds(1_795_630_000 + minutes * 60).into()
}

fn head(role: Role) -> OrganizationHead {
    OrganizationHead { name: "acme".to_owned(), display_name: "Acme Robotics".to_owned(), role }
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn problem(field: &'static str, code: ErrorCode) -> Problem {
    Problem { field, code, detail: String::new() }
}

/// Every sample: a name and its HTML.
pub(super) fn all() -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut add = |name: &str, page: &dyn askama::DynTemplate| {
        out.push((name.to_owned(), page.dyn_render().unwrap()));
    };
    for (name, page) in sign_in() {
        add(name, &page);
    }
    add("sign-out", &SignOutPage { frame: frame() });
    for (name, page) in first_operator() {
        add(name, &page);
    }
    for (name, page) in home() {
        add(name, &page);
    }
    for (name, page) in account() {
        add(name, &page);
    }
    for (name, page) in account_delete() {
        add(name, &page);
    }
    let (list, new, made, reaching) = access_tokens();
    add("access-tokens-none", &AccessTokensPage { tokens: Vec::new(), ..list.clone() });
    add("access-tokens", &list);
    add(
        "access-token-new-problems",
        &NewTokenPage { problems: Problems::one("name", ErrorCode::TokenNameInvalid), ..new.clone() },
    );
    add("access-token-new", &new);
    add("access-token-made", &made);
    add(
        "organization-tokens-none",
        &OrganizationTokensPage { tokens: Vec::new(), enforced: false, ..reaching.clone() },
    );
    add("organization-tokens", &reaching);
    for (name, page) in new_organization() {
        add(name, &page);
    }
    for (name, page) in general() {
        add(name, &page);
    }
    for (name, page) in members() {
        add(name, &page);
    }
    for (name, page) in join() {
        add(name, &page);
    }
    add(
        "join-confirm",
        &JoinConfirmPage {
            frame: frame(),
            organization: text("acme"),
            display_name: text("Acme Robotics"),
            identity: IdentityShown {
                display_name: text(HOSTILE),
                email: text("mira.novak@acme.example"),
                issuer: text("https://login.microsoftonline.com/8f1c6a52-9d1e-4c0e-b7ab-3d5f6f1a2b3c/v2.0"),
                subject: text("6c8b1a3e-0000-4000-8000-000000000001"),
            },
            provider_host: text("login.microsoftonline.com"),
            role: Role::Contributor,
            account: text("mira"),
            held: "x7Fq-".repeat(8),
        },
    );
    for (name, page) in sign_up() {
        add(name, &page);
    }
    for (name, page) in leave() {
        add(name, &page);
    }
    for (name, page) in invitation_made() {
        add(name, &page);
    }
    for (name, page) in sso_settings() {
        add(name, &page);
    }
    for (name, page) in sso_users() {
        add(name, &page);
    }
    for (name, page) in audit_log() {
        add(name, &page);
    }
    for (name, page) in sso_start() {
        add(name, &page);
    }
    for (name, page) in recovery_codes() {
        add(name, &page);
    }
    for (name, page) in recover() {
        add(name, &page);
    }
    for (name, page) in sso_link() {
        add(name, &page);
    }
    add(
        "going-on",
        &GoingOnPage {
            frame: frame(),
            location: text("https://login.microsoftonline.com/x/oauth2/v2.0/authorize?a=b&c=d"),
            host: text("login.microsoftonline.com"),
        },
    );
    for (name, page) in errors() {
        add(&name, &page);
    }
    out
}

fn sign_in() -> Vec<(&'static str, SignInPage)> {
    let empty = SignInPage {
        frame: nobody(),
        username: String::new(),
        next: String::new(),
        next_host: None,
        problems: Problems::default(),
        wait_seconds: None,
        fresh: false,
        signed_in_as: None,
    };
    vec![
        ("sign-in", empty.clone()),
        (
            "sign-in-wrong",
            SignInPage {
                username: text("mira"),
                next: text("/organizations/acme/sso"),
                problems: Problems::one("", ErrorCode::AccountWrongPassword),
                ..empty.clone()
            },
        ),
        (
            "sign-in-throttled",
            SignInPage {
                username: text(HOSTILE),
                problems: Problems::one("", ErrorCode::AccountThrottled),
                wait_seconds: Some(240),
                next_host: Some(text("hub.example.com")),
                ..empty.clone()
            },
        ),
        ("sign-in-again", SignInPage { signed_in_as: Some(text("mira")), frame: frame(), ..empty.clone() }),
        ("sign-in-fresh", SignInPage { username: text("mira"), fresh: true, frame: frame(), ..empty }),
    ]
}

fn first_operator() -> Vec<(&'static str, FirstOperatorPage)> {
    let empty = FirstOperatorPage {
        frame: nobody(),
        token: text(HOSTILE),
        name: String::new(),
        full_name: String::new(),
        email: String::new(),
        problems: Problems::default(),
    };
    vec![
        ("first-operator", empty.clone()),
        (
            "first-operator-problems",
            FirstOperatorPage {
                name: text("admin"),
                email: text("mira at example"),
                problems: Problems(vec![
                    problem("name", ErrorCode::AccountNameInvalid),
                    problem("email", ErrorCode::AccountEmailInvalid),
                    problem("password", ErrorCode::AccountPasswordTooShort),
                ]),
                ..empty
            },
        ),
    ]
}

fn home() -> Vec<(&'static str, HomePage)> {
    let organization = |name: &str, display: &str, role, sso| HomeOrganization {
        name: text(name),
        display_name: text(display),
        role,
        sso,
    };
    let page = |organizations, may_create| HomePage {
        frame: frame(),
        greeting: text("Mira"),
        organizations,
        may_create,
    };
    vec![
        (
            "home",
            page(
                vec![
                    organization("acme", "Acme Robotics", Role::Admin, HomeSso::Needed),
                    organization("globex", "Globex", Role::Write, HomeSso::Complete(at(9000))),
                    organization("initech", "Initech Gesellschaft für Papier", Role::Read, HomeSso::Asked),
                    organization("umbra", "Umbra", Role::Contributor, HomeSso::Exempt),
                    organization("hooli", HOSTILE, Role::NoAccess, HomeSso::Off),
                ],
                true,
            ),
        ),
        (
            "home-two-needed",
            page(
                vec![
                    organization("acme", "Acme Robotics", Role::Admin, HomeSso::Needed),
                    organization("globex", "Globex", Role::Write, HomeSso::Needed),
                ],
                false,
            ),
        ),
        (
            "home-empty",
            HomePage { frame: Frame { done: Some(Done::Left), ..frame() }, ..page(vec![], false) },
        ),
    ]
}

fn account() -> Vec<(&'static str, AccountPage)> {
    let session = |id: &str, current, minutes| SessionLine {
        id: text(id),
        current,
        signed_in: at(minutes),
        last_seen: at(minutes + 50),
    };
    let page = AccountPage {
        frame: Frame { done: Some(Done::PasswordChanged), ..frame() },
        username: text("mira"),
        full_name: text("Mira Novak"),
        emails: vec![
            AccountEmailLine { address: text("mira@acme.example"), proved: true, primary: true },
            AccountEmailLine { address: text("mira.novak@private.example"), proved: false, primary: false },
        ],
        sessions: vec![session("1", true, 0), session("2", false, -3000), session("3", false, -9000)],
        problems: Problems::default(),
    };
    vec![
        ("account", page.clone()),
        (
            "account-problems",
            AccountPage {
                frame: frame(),
                emails: vec![],
                sessions: vec![session("1", true, 0)],
                problems: Problems(vec![
                    problem("current_password", ErrorCode::AccountWrongPassword),
                    problem("new_password", ErrorCode::AccountPasswordCommon),
                ]),
                ..page
            },
        ),
    ]
}

fn account_delete() -> Vec<(&'static str, AccountDeletePage)> {
    let tie = |name: &str, display_name: &str, role, obstacle| TieLine {
        organization: text(name),
        display_name: text(display_name),
        role,
        obstacle,
    };
    let free = AccountDeletePage {
        frame: frame(),
        username: text("mira"),
        ties: vec![
            tie("acme", "Acme Robotics", Role::Write, None),
            tie("globex", HOSTILE, Role::NoAccess, None),
        ],
        problems: Problems::one("current_password", ErrorCode::AccountWrongPassword),
    };
    let held = AccountDeletePage {
        ties: vec![
            tie("acme", "Acme Robotics", Role::Admin, Some(Obstacle::LastAdmin)),
            tie("globex", "Globex", Role::Admin, Some(Obstacle::SsoNeeded)),
        ],
        problems: Problems::one("", ErrorCode::OrganizationLastAdmin),
        ..free.clone()
    };
    vec![
        (
            "account-delete-alone",
            AccountDeletePage { ties: vec![], problems: Problems::default(), ..free.clone() },
        ),
        ("account-delete", free),
        ("account-delete-held", held),
    ]
}

fn new_organization() -> Vec<(&'static str, NewOrganizationPage)> {
    let empty = NewOrganizationPage {
        frame: frame(),
        name: String::new(),
        display_name: String::new(),
        problems: Problems::default(),
    };
    vec![
        ("organization-new", empty.clone()),
        (
            "organization-new-problems",
            NewOrganizationPage {
                name: text("acme"),
                display_name: text(HOSTILE),
                problems: Problems::one("name", ErrorCode::OrganizationNameTaken),
                ..empty
            },
        ),
    ]
}

fn general() -> Vec<(&'static str, GeneralSettingsPage)> {
    let page = GeneralSettingsPage {
        frame: frame(),
        organization: head(Role::Admin),
        tab: Tab::General,
        display_name: text("Acme Robotics"),
        plan: "Enterprise",
        same_host_trusted: true,
        problems: Problems::default(),
    };
    vec![
        ("general", page.clone()),
        (
            "general-problems",
            GeneralSettingsPage {
                same_host_trusted: false,
                problems: Problems::one("display_name", ErrorCode::OrganizationDisplayNameInvalid),
                ..page
            },
        ),
    ]
}

fn link() -> LinkLine {
    LinkLine {
        who: text("jonas.weber@acme-robotics.example"),
        provider_host: text("login.microsoftonline.com"),
        since: at(-40_000),
        approved_by: text("mira"),
    }
}

fn identity(name: &str, email: &str) -> IdentityShown {
    IdentityShown {
        display_name: text(name),
        email: text(email),
        issuer: text("https://login.microsoftonline.com/8f1cf8e4-8d0e-4b0a-a3c0-9e3e0d3d9f11/v2.0"),
        subject: text("5b1c2f60-2f51-4a1e-9a94-5d2c8c1f7ab3"),
    }
}

fn link_requests() -> Vec<RequestLine> {
    let line = |account: &str, why, is_own| RequestLine {
        account: text(account),
        full_name: text("Jonas Weber"),
        identity: identity("J. Weber", "jw@corp.example"),
        why,
        asked_at: at(-90),
        request: text("wTnEJ2m1a9wTnEJ2m1a9wTnEJ2m1a9wTnEJ2m1a9abc"),
        is_own,
    };
    vec![
        line("jonas", Some(ErrorCode::SsoEmailNotProved), false),
        RequestLine {
            identity: identity(HOSTILE, ""),
            full_name: String::new(),
            ..line("s-anders", Some(ErrorCode::SsoAccountLinkedElsewhere), false)
        },
        line("zoe", Some(ErrorCode::SsoIdentityInUse), false),
        line("mira", None, true),
    ]
}

fn sso_link() -> Vec<(&'static str, SsoLinkPage)> {
    let page = SsoLinkPage {
        frame: frame(),
        organization: text("acme"),
        display_name: text("Acme Robotics"),
        identity: identity("Mira Novak", "mira.novak@acme-robotics-and-controls.example"),
        provider_host: text("login.microsoftonline.com"),
        account: text("mira"),
        addresses: vec![text("mira@acme.example"), text("mira@home.example")],
        fault: Fault::new(ErrorCode::SsoEmailNotProved),
        question: Question::Open { handle: text("wTnEJ2m1a9wTnEJ2m1a9wTnEJ2m1a9wTnEJ2m1a9abc") },
        again: text("/door/organizations/acme/sso?next=%2Fdoor%2F"),
    };
    let because = |code| SsoLinkPage { fault: Fault::new(code), ..page.clone() };
    vec![
        ("sso-link", page.clone()),
        ("sso-link-unverified", because(ErrorCode::SsoEmailUnverified)),
        (
            "sso-link-no-address",
            SsoLinkPage {
                identity: identity(HOSTILE, ""),
                addresses: Vec::new(),
                ..because(ErrorCode::SsoEmailMissing)
            },
        ),
        ("sso-link-replaces", because(ErrorCode::SsoAccountLinkedElsewhere)),
        (
            "sso-link-waiting",
            SsoLinkPage {
                frame: Frame { done: Some(Done::LinkRequested), ..frame() },
                question: Question::Waiting { since: at(0), until: at(20_160) },
                ..page
            },
        ),
    ]
}

fn recovery_codes() -> Vec<(&'static str, RecoveryCodesPage)> {
    let code = |n: u8| recovery_code([n.wrapping_mul(37), n, 0x5a, n, 0xc3, n, 0x81, n, n, 0x2e]);
    let page = RecoveryCodesPage {
        frame: Frame { done: Some(Done::SsoEnabled), ..frame() },
        organization: head(Role::Admin),
        tab: Tab::Sso,
        codes: (1..=10).map(code).collect(),
        just_enabled: true,
    };
    vec![
        ("recovery-codes", page.clone()),
        ("recovery-codes-new", RecoveryCodesPage { frame: frame(), just_enabled: false, ..page }),
    ]
}

fn recover() -> Vec<(&'static str, RecoverPage)> {
    let page = RecoverPage {
        frame: frame(),
        organization: head(Role::Admin),
        tab: Tab::Sso,
        left: 8,
        problems: Problems::default(),
    };
    vec![
        ("recover", page.clone()),
        (
            "recover-mistake",
            RecoverPage {
                left: 0,
                problems: Problems::one("code", ErrorCode::SettingsRecoveryCodeWrong),
                ..page
            },
        ),
    ]
}

fn members() -> Vec<(&'static str, MembersPage)> {
    let member = |name: &str, full_name: &str, role| MemberLine {
        name: text(name),
        full_name: text(full_name),
        role,
        external_collaborator: name == "zoe",
        is_self: name == "mira",
        links: if name == "jonas" { vec![link()] } else { Vec::new() },
    };
    let page = MembersPage {
        frame: Frame { done: Some(Done::MemberAdded), ..frame() },
        organization: head(Role::Admin),
        tab: Tab::Members,
        members: vec![
            member("jonas", "Jonas Weber", Role::Write),
            member("mira", "Mira Novak", Role::Admin),
            member("s-anders", "", Role::Read),
            member("zoe", HOSTILE, Role::Contributor),
        ],
        total: 240,
        search: String::new(),
        is_later_page: false,
        next_after: Some(text("zoe")),
        link_requests: Vec::new(),
        invitations: vec![
            invitation("0199a0b0-0000-7000-8000-000000000001", None, 5),
            invitation("0199a0b0-0000-7000-8000-000000000002", Some("sam"), 1),
        ],
        invitations_off: false,
        join_link: None,
        typed: Typed::default(),
        problems: Problems::default(),
        same_host_trusted: false,
    };
    vec![
        ("members", page.clone()),
        ("members-links", MembersPage { frame: frame(), link_requests: link_requests(), ..page.clone() }),
        (
            "members-problem",
            MembersPage {
                frame: frame(),
                typed: Typed { account: text("jonass"), ..Typed::default() },
                problems: Problems::one("account", ErrorCode::MembershipAccountUnknown),
                ..page.clone()
            },
        ),
        (
            "members-last-admin",
            MembersPage {
                frame: frame(),
                problems: Problems::one("", ErrorCode::OrganizationLastAdmin),
                next_after: None,
                ..page.clone()
            },
        ),
        (
            "members-sso",
            MembersPage {
                frame: frame(),
                invitations_off: true,
                join_link: Some(join_link_card(true)),
                typed: Typed { join_uses: text("0"), ..Typed::default() },
                problems: Problems::one("join_uses", ErrorCode::JoinUsesInvalid),
                ..page.clone()
            },
        ),
        (
            "members-sso-no-link",
            MembersPage {
                frame: frame(),
                invitations: Vec::new(),
                invitations_off: true,
                join_link: Some(join_link_card(false)),
                ..page.clone()
            },
        ),
        (
            "members-invite-problem",
            MembersPage {
                frame: frame(),
                typed: Typed { invite_account: text(HOSTILE), invite_uses: text("x"), ..Typed::default() },
                problems: Problems(vec![
                    problem("invite_account", ErrorCode::JoinAccountNeeded),
                    problem("invite_uses", ErrorCode::JoinUsesInvalid),
                ]),
                ..page.clone()
            },
        ),
        (
            "members-found",
            MembersPage {
                frame: frame(),
                search: text(HOSTILE),
                is_later_page: true,
                total: 1,
                ..page.clone()
            },
        ),
        (
            "members-found-nobody",
            MembersPage {
                frame: frame(),
                search: text("zzz"),
                members: Vec::new(),
                next_after: None,
                total: 0,
                ..page.clone()
            },
        ),
        (
            "members-reader",
            MembersPage { frame: frame(), organization: head(Role::Read), invitations: Vec::new(), ..page },
        ),
    ]
}

fn invitation(id: &str, account: Option<&str>, uses_left: i64) -> InvitationLine {
    InvitationLine {
        id: text(id),
        role: if account.is_some() { Role::Admin } else { Role::Read },
        account: account.map(text),
        uses_left,
        created_by: text("mira"),
        expires_at: at(7 * 24 * 60),
    }
}

fn join_link_card(on: bool) -> JoinLinkCard {
    JoinLinkCard {
        link: on.then(|| JoinLinkShown {
            url: Some(format!("https://sso.example.com/door/organizations/acme/join/{}", "x7Fq-".repeat(8))),
            role: Role::Read,
            uses_left: Some(12),
            created_by: text("mira"),
            created_at: at(0),
        }),
        uses: String::new(),
    }
}

fn join() -> Vec<(&'static str, JoinPage)> {
    let page = JoinPage {
        frame: nobody(),
        organization: text("acme"),
        display_name: text("Acme Robotics"),
        here: format!("/door/organizations/acme/join/{}", "x7Fq-".repeat(8)),
        role: Role::Contributor,
        join_by: JoinBy::Invitation { invited_by: text("mira"), expires_at: at(7 * 24 * 60), named: false },
        account: None,
    };
    let sso = JoinBy::Sso { provider_host: text("login.microsoftonline.com") };
    vec![
        ("join-invitation-stranger", page.clone()),
        (
            "join-invitation",
            JoinPage {
                frame: frame(),
                account: Some(text("mira")),
                display_name: text(HOSTILE),
                ..page.clone()
            },
        ),
        (
            "join-invitation-named",
            JoinPage {
                join_by: JoinBy::Invitation {
                    invited_by: text(HOSTILE),
                    expires_at: at(7 * 24 * 60),
                    named: true,
                },
                role: Role::Admin,
                ..page.clone()
            },
        ),
        ("join-sso-stranger", JoinPage { join_by: sso.clone(), ..page.clone() }),
        ("join-sso", JoinPage { frame: frame(), account: Some(text("mira")), join_by: sso, ..page }),
    ]
}

fn sign_up() -> Vec<(&'static str, SignUpPage)> {
    let empty = SignUpPage {
        frame: nobody(),
        display_name: text("Acme Robotics"),
        next: format!("/door/organizations/acme/join/{}", "x7Fq-".repeat(8)),
        name: String::new(),
        full_name: String::new(),
        email: String::new(),
        problems: Problems::default(),
    };
    let wrong = SignUpPage {
        name: text("mira"),
        full_name: text(HOSTILE),
        email: text("mira@"),
        problems: Problems(vec![
            problem("name", ErrorCode::AccountNameTaken),
            problem("email", ErrorCode::AccountEmailInvalid),
            problem("password_again", ErrorCode::AccountPasswordsDiffer),
        ]),
        ..empty.clone()
    };
    vec![("sign-up", empty), ("sign-up-wrong", wrong)]
}

fn leave() -> Vec<(&'static str, LeavePage)> {
    let page = LeavePage {
        frame: frame(),
        organization: text("acme"),
        display_name: text("Acme Robotics"),
        role: Role::Admin,
        is_last_admin: false,
        has_sso: true,
    };
    vec![
        ("leave-last-admin", LeavePage { is_last_admin: true, ..page.clone() }),
        ("leave-reader", LeavePage { role: Role::Read, has_sso: false, ..page.clone() }),
        ("leave", page),
    ]
}

fn access_tokens() -> (AccessTokensPage, NewTokenPage, TokenMadePage, OrganizationTokensPage) {
    let reach = |name: &str, reach| ReachLine { name: text(name), display_name: text(HOSTILE), reach };
    let sso = || text("/door/organizations/acme/sso?next=%2Fdoor%2Fsettings%2Ftokens");
    let token = |id: u8, over| TokenLine {
        id: format!("0193f0c2-a7d1-7000-8000-0000000000{id:02}"),
        name: text(if over { HOSTILE } else { "nightly build" }),
        ceiling: Role::Contributor,
        expires: at(60),
        over,
        last_used: (!over).then(|| at(-60)),
        reaches: vec![
            reach("acme", Reach::Authorized { since: at(-100), until: at(500) }),
            reach("globex", Reach::Waits { sso: sso() }),
            reach("initech", Reach::Open),
            reach("umbrella", Reach::SsoFirst { sso: sso() }),
        ],
    };
    let reaching = |id: u8, authorized: bool| ReachingLine {
        id: format!("0193f0c2-a7d1-7000-8000-0000000000{id:02}"),
        owner: text("jonas"),
        name: text(HOSTILE),
        role: Role::Write,
        expires: at(60),
        last_used: authorized.then(|| at(-60)),
        authorized: authorized.then(|| at(-100)),
        waits: authorized,
    };
    (
        AccessTokensPage { frame: frame(), tokens: vec![token(1, false), token(2, true)] },
        NewTokenPage {
            frame: frame(),
            name: text(HOSTILE),
            days: text("30"),
            role: Role::Read,
            problems: Problems::default(),
        },
        TokenMadePage {
            frame: frame(),
            name: text(HOSTILE),
            token: new_access_token([7; 20]),
            ceiling: Role::Read,
            expires: at(60),
        },
        OrganizationTokensPage {
            frame: frame(),
            organization: head(Role::Admin),
            tab: Tab::Tokens,
            enforced: true,
            tokens: vec![reaching(1, true), reaching(2, false)],
            is_later_page: true,
            next_query: Some(text("after=mira&token=0193f0c2-a7d1-7000-8000-000000000001")),
            days: text("30"),
            problems: Problems::one("days", ErrorCode::TokenSsoDaysInvalid),
        },
    )
}

fn invitation_made() -> Vec<(&'static str, InvitationMadePage)> {
    let page = InvitationMadePage {
        frame: frame(),
        organization: head(Role::Admin),
        tab: Tab::Members,
        url: format!("https://sso.example.com/door/organizations/acme/join/{}", "x7Fq-".repeat(8)),
        role: Role::Write,
        account: String::new(),
        uses: 5,
    };
    let named = InvitationMadePage { account: text("jonas"), role: Role::Admin, uses: 1, ..page.clone() };
    vec![("invitation-made", page), ("invitation-made-named", named)]
}

fn form() -> OidcForm {
    OidcForm {
        client_id: text("1f6a2c7e-5d3b-4b1a-9a57-0c1f7f4f2a11"),
        issuer_url: text(
            "https://login.microsoftonline.com/8f1c6a52-9d1e-4c0e-b7ab-3d5f6f1a2b3c/v2.0/.well-known/openid-configuration",
        ),
        ..OidcForm::default()
    }
}

fn found() -> ProviderFound {
    ProviderFound {
        issuer: text("https://login.microsoftonline.com/8f1c6a52-9d1e-4c0e-b7ab-3d5f6f1a2b3c/v2.0"),
        sign_in_host: text("login.microsoftonline.com"),
        tenant_id: Some(text("8f1c6a52-9d1e-4c0e-b7ab-3d5f6f1a2b3c")),
        tenant_name: Some(text("acme.example")),
    }
}

fn passed_test(verdict: LinkVerdict) -> TestShown {
    TestShown {
        revision: 3,
        passed: true,
        at: at(0),
        by: text("you, in this browser"),
        steps: step_lines(true, None, false),
        findings: vec![],
        claims: vec![
            (text("iss"), found().issuer),
            (text("oid"), text("0d0c9a55-7c4c-4f0c-8b8c-11d2a0a0f1b7")),
            (text("email"), text("mira@acme.example")),
            (text("name"), text(HOSTILE)),
        ],
        identity: Some(IdentityShown {
            display_name: text("Mira Novak"),
            email: text("mira@acme.example"),
            issuer: found().issuer,
            subject: text("0d0c9a55-7c4c-4f0c-8b8c-11d2a0a0f1b7"),
        }),
        verdict: Some(verdict),
    }
}

fn failed_test() -> TestShown {
    let finding = Finding::new(Step::Token, ErrorCode::OidcClientSecretExpired)
        .with("aadsts", "7000222")
        .with("token_endpoint", "https://login.microsoftonline.com/8f1c6a52/oauth2/v2.0/token")
        .with_provider_words("AADSTS7000222: The provided client secret keys for app '1f6a2c7e' are expired. Visit the Azure portal to create new keys. <b>Trace</b> ID: 3b2f");
    TestShown {
        passed: false,
        steps: step_lines(false, Some(Step::Token), false),
        findings: vec![Fault::from(&finding)],
        claims: vec![],
        identity: None,
        verdict: None,
        ..passed_test(LinkVerdict::Would)
    }
}

fn sso_settings() -> Vec<(&'static str, SsoSettingsPage)> {
    let empty = SsoSettingsPage {
        frame: frame(),
        organization: head(Role::Admin),
        tab: Tab::Sso,
        plan_missing: false,
        state: ConnectionState::NotSetUp,
        failing: false,
        draft_passed: false,
        redirect_uri: text("https://sso.example.com/door/organizations/acme/oidc/consume"),
        start_url: text("https://sso.example.com/door/organizations/acme/sso"),
        form: OidcForm::default(),
        stored_secret: None,
        problems: Problems::default(),
        draft: None,
        found: None,
        test: None,
        enable: None,
        live: None,
        link_requests: 0,
        recovery_codes: Some((8, 10)),
        recovered_until: None,
        complete_sso_first: false,
        same_host_trusted: false,
        join_link: Some(join_link_card(true)),
    };
    let enable = EnableCard {
        revision: 3,
        members: 240,
        spared: 2,
        enforcement: Enforcement::Enforced,
        identity: text("Mira Novak (mira@acme.example)"),
        subject: text("7f0e1c1a-0d3b-4b57-9d8e-2f3a5b6c7d8e"),
        account: text("mira"),
        confirms_identity: false,
        test_again: None,
    };
    let tested = SsoSettingsPage {
        state: ConnectionState::Tested,
        draft_passed: true,
        form: form(),
        stored_secret: Some(StoredSecret { end: text("q9~X") }),
        draft: Some(3),
        found: Some(found()),
        test: Some(passed_test(LinkVerdict::Would)),
        enable: Some(enable.clone()),
        ..empty.clone()
    };
    let live = LiveCard {
        revision: 2,
        enforcement: Enforcement::Enforced,
        issuer: found().issuer,
        members: 240,
        linked: 198,
    };
    vec![
        ("sso-not-set-up", empty.clone()),
        (
            "sso-problems",
            SsoSettingsPage {
                form: OidcForm {
                    client_id: text(HOSTILE),
                    issuer_url: text("https://login.microsoftonline.com/common/v2.0"),
                    scopes: text("profile"),
                    ..OidcForm::default()
                },
                problems: Problems(vec![
                    problem("client_secret", ErrorCode::SettingsClientSecretIsId),
                    problem("issuer_url", ErrorCode::SettingsIssuerMultiTenant),
                    problem("scopes", ErrorCode::SettingsScopesInvalid),
                ]),
                ..empty.clone()
            },
        ),
        (
            "sso-test-failed",
            SsoSettingsPage {
                state: ConnectionState::TestFailed,
                draft_passed: false,
                test: Some(failed_test()),
                enable: None,
                ..tested.clone()
            },
        ),
        ("sso-tested", tested.clone()),
        (
            "sso-tested-yesterday",
            SsoSettingsPage {
                test: Some(passed_test(LinkVerdict::ByEnable(ErrorCode::SsoEmailNotProved))),
                enable: Some(EnableCard {
                    test_again: Some(TestAgain::TooOld),
                    confirms_identity: true,
                    members: 1,
                    ..enable.clone()
                }),
                ..tested.clone()
            },
        ),
        (
            "sso-live",
            SsoSettingsPage {
                frame: Frame { done: Some(Done::SsoEnabled), ..frame() },
                state: ConnectionState::Live,
                test: Some(passed_test(LinkVerdict::Linked)),
                enable: None,
                live: Some(live.clone()),
                failing: true,
                ..tested.clone()
            },
        ),
        (
            "sso-live-change-pending",
            SsoSettingsPage {
                state: ConnectionState::LiveChangePending,
                test: Some(passed_test(LinkVerdict::WouldNot(ErrorCode::SsoIdentityInUse))),
                enable: Some(EnableCard { test_again: Some(TestAgain::NotHere), ..enable }),
                live: Some(live.clone()),
                link_requests: 2,
                complete_sso_first: true,
                same_host_trusted: true,
                ..tested.clone()
            },
        ),
        (
            "sso-plan-missing",
            SsoSettingsPage {
                plan_missing: true,
                state: ConnectionState::Live,
                live: Some(live),
                enable: None,
                ..tested
            },
        ),
    ]
}

fn sso_users() -> Vec<(&'static str, SsoUsersPage)> {
    let page = SsoUsersPage {
        frame: frame(),
        organization: head(Role::Admin),
        tab: Tab::SsoUsers,
        plan_missing: false,
        session_timeout_hours: text("168"),
        session_timeout: text("7 days"),
        same_host_trusted: false,
        guests_may_link: Some(false),
        collaborators: vec![
            CollaboratorLine {
                name: text("zoe"),
                full_name: text(HOSTILE),
                role: Role::Contributor,
                until: Some(at(9000)),
                is_over: false,
            },
            CollaboratorLine {
                name: text("jonas"),
                full_name: String::new(),
                role: Role::Read,
                until: Some(at(-9000)),
                is_over: true,
            },
            CollaboratorLine {
                name: text("s-anders"),
                full_name: text("Siri Anders"),
                role: Role::Write,
                until: None,
                is_over: false,
            },
        ],
        typed: TypedCollaborator::default(),
        problems: Problems::default(),
    };
    vec![
        (
            "sso-users-collaborator-problems",
            SsoUsersPage {
                collaborators: Vec::new(),
                typed: TypedCollaborator { account: text("nobody"), until: text("2026-01-01") },
                problems: Problems(vec![
                    problem("account", ErrorCode::MembershipNeeded),
                    problem("until", ErrorCode::MembershipEndInvalid),
                ]),
                ..page.clone()
            },
        ),
        ("sso-users", page.clone()),
        (
            "sso-users-problems",
            SsoUsersPage {
                session_timeout_hours: text("0"),
                guests_may_link: Some(true),
                problems: Problems::one("session_timeout_hours", ErrorCode::SettingsTimeoutInvalid),
                ..page.clone()
            },
        ),
        ("sso-users-plan-missing", SsoUsersPage { plan_missing: true, guests_may_link: None, ..page }),
    ]
}

fn audit_log() -> Vec<(&'static str, AuditLogPage)> {
    let line = |sequence, action: AuditAction, details: &[(&str, &str)]| AuditLine {
        sequence,
        at: at(-sequence * 7),
        actor: text("mira"),
        actor_kind: text(if sequence == 38 { "operator" } else { "account" }),
        action: action.as_str().to_owned(),
        details: details.iter().map(|(name, value)| (text(name), text(value))).collect(),
        place: text("192.0.2.0/24"),
        request_id: text("0193f0c2a7d1"),
    };
    let page = AuditLogPage {
        frame: frame(),
        organization: head(Role::Admin),
        tab: Tab::AuditLog,
        entries: vec![
            line(
                41,
                AuditAction::OrgSettingsSsoEnable,
                &[("revision", "3"), ("enforcement", "enforced"), ("issuer", &found().issuer)],
            ),
            line(40, AuditAction::OrgSettingsSsoTest, &[("revision", "3"), ("outcome", "passed")]),
            line(39, AuditAction::OrgAddUser, &[("account", "jonas"), ("role", HOSTILE)]),
            AuditLine { place: String::new(), ..line(38, AuditAction::OrgCreate, &[]) },
        ],
        action: String::new(),
        next_before: Some(38),
        has_newer: false,
        same_host_trusted: false,
    };
    vec![
        ("audit-log", page.clone()),
        (
            "audit-log-empty",
            AuditLogPage {
                entries: vec![],
                action: text("org.leave"),
                next_before: None,
                has_newer: true,
                ..page
            },
        ),
    ]
}

fn sso_start() -> Vec<(&'static str, SsoStartPage)> {
    let page = SsoStartPage {
        frame: frame(),
        organization: text("acme"),
        display_name: text("Acme Robotics"),
        provider_host: text("login.microsoftonline.com"),
        account: text("mira"),
        next: text("https://hub.example.com/acme/secret"),
        login_hint: String::new(),
        session_timeout: text("7 days"),
        skip_to: None,
        expired: false,
    };
    vec![
        ("sso-start", page.clone()),
        (
            "sso-start-optional",
            SsoStartPage { skip_to: Some(text("https://hub.example.com/acme")), expired: true, ..page },
        ),
    ]
}

fn errors() -> Vec<(String, ErrorPage)> {
    let mut out: Vec<(String, ErrorPage)> = ErrorCode::ALL
        .iter()
        .map(|code| (format!("error-{code}"), ErrorPage::new(frame(), *code, text("0193f0c2a7d1"))))
        .collect();
    let finding = Finding::new(Step::Authorization, ErrorCode::OidcNotAssigned)
        .with("aadsts", "50105")
        .with("found", HOSTILE)
        .with_provider_words("AADSTS50105: Your administrator has configured the application Acme Hub to block users unless they are specifically granted access.");
    out.push((
        text("error-explained"),
        ErrorPage {
            frame: nobody(),
            fault: Fault::from(&finding),
            action: Some(Action { label: text("Start again"), href: text("/door/organizations/acme/sso") }),
            request_id: text("0193f0c2a7d1"),
        },
    ));
    out
}
