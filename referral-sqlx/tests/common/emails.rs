//! Email addresses that the tables accept and reject, independently of the checks in the program.

pub(crate) const EMAILS: [&str; 5] = [
    "anna@example.com",
    "a@b.c",
    "user@xn--e1afmkfd.xn--p1ai",
    "!#$%&'*+-/=?^_`{|}~.-@a--b.0.c1",
    "a-.-b@1.2a",
];

pub(crate) const NO_EMAILS: [&str; 21] = [
    "Anna@example.com",
    "anna@example",
    "@example.com",
    "anna@",
    "anna",
    "a@b@c.de",
    ".anna@example.com",
    "anna.@example.com",
    "an..na@example.com",
    "an na@example.com",
    "<anna@example.com>",
    "anna@-example.com",
    "anna@example-.com",
    "anna@example.com-",
    "anna@exam_ple.com",
    "anna@.example.com",
    "anna@example..com",
    "anna@example.com.",
    "anna@[127.0.0.1]",
    "anna@пример.рф",
    "анна@example.com",
];
