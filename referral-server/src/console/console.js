// Loads branches of the referral tree into the page. Without this script, a link opens the branch as a page.
"use strict";

const tree = document.querySelector(".tree");

// Returns the list items of a branch, or null if the session has ended or the request failed.
async function load(href) {
  const url = new URL(href, location.href);
  url.searchParams.set("part", "1");
  const response = await fetch(url, { redirect: "error" });
  if (!response.ok) return null;
  const text = await response.text();
  const parsed = new DOMParser().parseFromString("<ul>" + text + "</ul>", "text/html");
  return [...parsed.querySelector("ul").children].map((item) => document.adoptNode(item));
}

// Runs a step while the link is marked as busy. If it fails, the link is followed.
async function withLoading(link, step) {
  if (link.getAttribute("aria-busy") === "true") return;
  link.setAttribute("aria-busy", "true");
  let items = null;
  try {
    items = await load(link.href);
  } catch {
    items = null;
  }
  link.removeAttribute("aria-busy");
  if (items === null) {
    location.assign(link.href);
  } else {
    prepare(items);
    step(items);
  }
}

// Makes the links to branches work as buttons.
function prepare(items) {
  for (const item of items) {
    const branch = item.querySelector(":scope > .entry > a.branch");
    if (branch) {
      branch.setAttribute("role", "button");
      branch.setAttribute("aria-expanded", "false");
    }
  }
}

async function toggle(branch) {
  const item = branch.closest("li");
  const list = item.querySelector(":scope > ul");
  if (list) {
    list.hidden = !list.hidden;
    branch.setAttribute("aria-expanded", String(!list.hidden));
    return;
  }
  await withLoading(branch, (items) => {
    const list = document.createElement("ul");
    list.append(...items);
    item.append(list);
    branch.setAttribute("aria-expanded", "true");
  });
}

async function more(link) {
  await withLoading(link, (items) => {
    const item = link.parentElement;
    item.replaceWith(...items);
    items[0]?.querySelector("a")?.focus();
  });
}

if (tree) {
  prepare(tree.querySelectorAll("li"));
  tree.addEventListener("click", (event) => {
    const link = event.target.closest("a.branch, a.more");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (link.classList.contains("branch")) toggle(link);
    else more(link);
  });
  // A button is also pressed by the space bar.
  tree.addEventListener("keydown", (event) => {
    const branch = event.target.closest("a.branch");
    if (!branch || event.key !== " ") return;
    event.preventDefault();
    toggle(branch);
  });
}
