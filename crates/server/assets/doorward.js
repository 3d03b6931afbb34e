// Small comforts; every page works without them. Nothing is sent and nothing is kept.
"use strict";

// Copy buttons: shown only where the clipboard can be written.
for (const button of document.querySelectorAll("[data-copy]")) {
  const input = document.getElementById(button.dataset.copy);
  if (!navigator.clipboard || !input) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(input.value);
      button.textContent = "Copied";
      button.classList.add("done");
    } catch {
      input.select();
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => {
      button.textContent = "Copy";
      button.classList.remove("done");
    }, 2000);
  });
}

// Show and hide what is typed into a secret field; it is hidden again before it is sent.
for (const button of document.querySelectorAll("[data-reveal]")) {
  const input = document.getElementById(button.dataset.reveal);
  if (!input) continue;
  const set = (shown) => {
    input.type = shown ? "text" : "password";
    button.textContent = shown ? "Hide" : "Show";
  };
  button.hidden = false;
  button.addEventListener("click", () => set(input.type === "password"));
  input.form?.addEventListener("submit", () => set(false));
}

// The account menu closes on Escape and on a click elsewhere.
const menu = document.getElementById("account-menu");
if (menu) {
  document.addEventListener("click", (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}

// The SSO form: a changed field takes the green check away, and a Secret ID is told from a secret when it is pasted.
const form = document.querySelector("[data-settings-form]");
if (form) {
  const check = document.querySelector("[data-live-hint=check]");
  const changed = document.querySelector("[data-live-hint=changed]");
  const fields = [...form.elements].filter((field) => field.name);
  const before = new Map(fields.map((field) => [field, field.value]));
  const guid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
  const secret = form.elements.client_secret;
  const issuer = form.elements.issuer_url;
  const warning = form.querySelector("[data-secret-id-warning]");
  const look = () => {
    const same = fields.every((field) => field.value === before.get(field));
    if (check && changed) {
      check.hidden = !same;
      changed.hidden = same;
    }
    const entra = /(microsoftonline|windows\.net|ciamlogin|\/[0-9a-f-]{36}\/v2\.0)/i.test(issuer.value);
    const looksLikeId = guid.test(secret.value.trim()) && (entra || issuer.value === "");
    const words = looksLikeId ? "This looks like the Secret ID. In Entra copy the column Value instead." : "";
    if (warning.textContent !== words) warning.textContent = words;
  };
  form.addEventListener("input", look);
  addEventListener("pageshow", look);
}

// A summary of mistakes is where the reader should begin.
document.getElementById("problems")?.focus();

// Print buttons: shown only where there is a script to press them.
for (const button of document.querySelectorAll("[data-print]")) {
  button.hidden = false;
  button.addEventListener("click", () => window.print());
}
