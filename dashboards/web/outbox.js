// Messages that wait or were given up: listed, tried again, dropped. The list is asked for only while there is something
// to list: the dashboard's answer says how many wait, and every few seconds it is looked for dead letters.

import { age, clock, whole } from "./format.js";

const SHOWN = 20;
const EVERY_MS = 5000;
const TIMEOUT_MS = 4000;

let askedAt = 0;
let last = null;

/** Asks when it is time and shows. `page` has the helpers of the page: $, make, setText, setBadge, keyed. */
export async function showOutbox(page, data) {
  const waiting = data.notifications.receivers.reduce((sum, receiver) => sum + receiver.pending, 0);
  const shown = last?.notifications.length ?? 0;
  if (performance.now() - askedAt >= EVERY_MS || (waiting > 0) !== (shown > 0)) await readOutbox();
  if (last !== null) show(page, data.now);
}

async function readOutbox() {
  askedAt = performance.now();
  const answer = await fetch("/api/notifications", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (answer.ok) last = await answer.json();
}

function show(page, now) {
  const letters = last.notifications.slice(0, SHOWN);
  const dead = last.notifications.filter((letter) => letter.state === "dead").length;
  page.$("outbox-card").hidden = letters.length === 0;
  const count = `${whole(last.total - dead)} on their way, ${whole(dead)} given up`;
  page.setText(page.$("outbox-note"), last.total > letters.length ? `${count}; the newest ${letters.length} are shown` : count);
  page.keyed(page.$("outbox"), letters, (letter) => String(letter.id), (letter) => create(page, letter), (item, letter) => update(page, item, letter, now));
}

function create(page, letter) {
  const item = page.make("li");
  const body = page.make("div");
  body.append(page.make("div", "alert-name"), page.make("div", "why"));
  const buttons = page.make("div", "buttons");
  const retry = page.make("button", "button", "Try again");
  const drop = page.make("button", "button", "Drop");
  for (const button of [retry, drop]) button.type = "button";
  retry.addEventListener("click", () => act(page, item, `/api/notifications/${letter.id}/retry`, "POST"));
  drop.addEventListener("click", () => {
    // What is dropped is gone: the second click does it.
    if (drop.dataset.sure === "true") {
      act(page, item, `/api/notifications/${letter.id}`, "DELETE");
      return;
    }
    drop.dataset.sure = "true";
    page.setText(drop, "Really drop?");
    setTimeout(() => {
      drop.dataset.sure = "false";
      page.setText(drop, "Drop");
    }, 4000);
  });
  buttons.append(retry, drop);
  item.append(page.make("span", "badge"), body, buttons);
  return item;
}

function update(page, item, letter, now) {
  const [badge, body, buttons] = item.children;
  const words = { waiting: ["pending", "waiting"], sending: ["connecting", "being sent"], dead: ["failed", "given up"] };
  page.setBadge(badge, ...words[letter.state]);
  const [name, why] = body.children;
  page.setText(name, `${letter.rules.join(", ")} (${letter.status}) to ${letter.receiver}`);
  const since = age((Date.parse(now) - Date.parse(letter.decided)) / 1000);
  const next = letter.next_try && letter.attempts > 0 ? `next at ${clock(letter.next_try)}` : "";
  const said = item.dataset.said ?? "";
  page.setText(why, [`decided ${since} ago`, `${whole(letter.alerts)} alerts`, `${whole(letter.attempts)} attempts`, next, letter.why_text ?? "", letter.error, said].filter(Boolean).join(" · "));
  for (const button of buttons.children) {
    button.disabled = letter.state === "sending";
    const what = `${letter.rules.join(", ")} to ${letter.receiver}`;
    button.setAttribute("aria-label", `${button.textContent}: message ${letter.id}, ${what}`);
  }
}

async function act(page, item, path, method) {
  try {
    const answer = await fetch(path, { method, signal: AbortSignal.timeout(TIMEOUT_MS) });
    const body = await answer.json();
    item.dataset.said = answer.ok ? body.result ?? "" : [body.error, body.hint].filter(Boolean).join(": ");
  } catch (error) {
    item.dataset.said = `it could not be asked: ${error.message}`;
  }
  await readOutbox();
  if (last !== null) show(page, new Date().toISOString());
}
