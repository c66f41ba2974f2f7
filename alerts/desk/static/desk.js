"use strict";
// Keeps the page up to date and sends its forms through the API. Without it the page works all the same.
// Texts from outside are only ever set as text, never as markup.
(() => {
  const body = document.body;
  const csrf = body.dataset.csrf;

  // Forms --------------------------------------------------------------------------------------------------------
  const valueOf = (field) => {
    if ("number" in field.dataset) return Number(field.value);
    if ("true" in field.dataset) return true;
    if ("null" in field.dataset) return field.value || null;
    return field.value;
  };

  // What was done is said for a moment. What went wrong stays at its form until it is put away, or it works.
  const toast = (text, href) => {
    const box = document.createElement(href ? "a" : "div");
    box.textContent = text;
    if (href) box.href = href; else box.className = "plain";
    document.getElementById("toasts").append(box);
    setTimeout(() => box.remove(), href ? 20000 : 6000);
  };
  const complaints = (root, id) => [...root.querySelectorAll(".failed")].filter((box) => !id || box.dataset.of === id);
  const complain = (form, { detail, alert }, region) => {
    const box = document.createElement("div"), close = document.createElement("button");
    box.className = "failed";
    box.role = "alert";
    box.dataset.of = form.id;
    close.type = "button";
    close.className = "quiet";
    close.textContent = "✕";
    close.setAttribute("aria-label", "Put this message away");
    close.addEventListener("click", () => box.remove());
    box.append(detail);
    if (alert) {
      const there = document.createElement("a");
      there.href = `/alerts/${alert}`;
      there.textContent = "To that alert";
      box.append(there);
    }
    box.append(close);
    place(box, document, region);
  };
  const place = (box, root, region) => {
    const form = root.querySelector(`#${CSS.escape(box.dataset.of)}`);
    const spot = form?.closest("details[open]") ? form : form?.closest(".actions, .corrections")
      || form?.closest("details")?.parentElement || form || region;
    (spot || document.getElementById("toasts")).append(box);
  };
  const until = ({ ends_at, changed_at, created_at }) =>
    times.sameDay(ends_at, changed_at || created_at) ? times.clock(ends_at) : times.when(ends_at);
  const silenced = (made) => {
    if (!("over" in made)) return `The silence ends at ${until(made)}`;
    const what = made.matchers.map((each) => each.name + each.op + each.value).join(", ");
    return `Silenced ${what} until ${until(made)}; `
      + `covers ${made.over} open alert${made.over === 1 ? "" : "s"} now`;
  };

  const valuesOf = (form, submitter) => {
    if ("together" in form.dataset) return valuesTogether(form, submitter);
    const values = {};
    for (const field of form.elements) {
      if (field.name && !["csrf", "next"].includes(field.name)) values[field.name] = valueOf(field);
    }
    return form.querySelector("[data-end]") ? withEnd(values) : values;
  };
  // Of the fields for an end the API takes the one that is chosen.
  const withEnd = ({ minutes, length, until, zone, ...values }) => {
    if (minutes === "length") return { ...values, length };
    if (minutes === "until") return { ...values, until: { at: until, zone } };
    return { ...values, minutes: Number(minutes) };
  };
  document.addEventListener("change", ({ target }) => {
    if (!target.matches("[data-end]") || target.value !== "until") return;
    const { until } = target.form.elements, zones = document.getElementById("zones");
    until.value ||= times.inAnHour();
    if (zones.options.length) return;
    zones.append(...["UTC", ...Intl.supportedValuesOf("timeZone")].map((name) => new Option(name, name)));
  });

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.dataset.api) return;
    event.preventDefault();
    const values = valuesOf(form, event.submitter);
    const method = form.dataset.method || "POST";
    let region = null, failed = null;
    for (const button of form.querySelectorAll("button")) button.disabled = true;
    event.submitter?.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(form.dataset.api, {
        method,
        headers: { "content-type": "application/json", "x-csrf-token": csrf },
        body: method === "DELETE" ? undefined : JSON.stringify(values),
      });
      if (answer.status === 401) {
        location.assign(`/signin?ended=1&next=${encodeURIComponent(location.pathname + location.search)}`);
        return;
      }
      const told = answer.status === 204 ? {} : await answer.json();
      if (answer.ok || answer.status === 409) region = form.closest("[data-live]");  // which is not as it was
      if (answer.ok) {
        if ("outcomes" in told) tell(told);
        else toast("ends_at" in told ? silenced(told) : form.dataset.done);
        if (form.closest("details")) form.closest("details").open = false;
        if (!region) form.reset();
      } else failed = { detail: told.detail || "That did not work.", alert: told.alert };
    } catch {
      failed = { detail: "The desk cannot be reached; nothing is known to be done." };
    }
    event.submitter?.removeAttribute("aria-busy");
    for (const button of form.querySelectorAll("button")) button.disabled = false;
    for (const box of complaints(document, form.id)) box.remove();
    await refresh(null, region?.id);
    ticked();
    if (failed) complain(form, failed, region && document.getElementById(region.id));
    if (form.hidden) return;  // the focus is where it is told what became of each
    // A button that is disabled has lost the focus; who went elsewhere meanwhile stays there.
    const active = document.activeElement;
    if (active && active !== document.body && !form.contains(active)) return;
    const next = inForm(document, form.id) || document.querySelector(region ? `#${region.id} :is(h1, h2)` : "h1")
      || document.querySelector("h1");
    focus(next);
  });
  const focus = (node) => {
    if (!node.matches("a, button, summary, input")) node.tabIndex = -1;
    node.focus();
  };

  // Several alerts at once: the bar shows while any is ticked, and says what became of each --------------------------
  const bar = document.getElementById("together");
  const boxes = () => [...document.querySelectorAll("[data-pick]")];
  const ticks = () => boxes().filter((box) => box.checked);
  const ticked = () => {
    if (!bar) return;
    const count = ticks().length, all = bar.querySelector("[data-all]");
    bar.hidden = !count && document.activeElement !== bar.elements.reason;  // it does not go while somebody writes
    document.getElementById("picked").textContent = `${count || "none"} ticked`;
    all.hidden = false;
    all.textContent = count < Math.min(boxes().length, MOST_TOGETHER) ? "Tick all" : "Tick none";
  };
  const MOST_TOGETHER = 100;
  const valuesTogether = (form, submitter) => {
    const what = submitter?.value || "acknowledge", fields = form.elements;
    const values = { what, alerts: ticks().map((box) => box.value), reason: fields.reason.value };
    if (what === "silence") {
      values.minutes = Number(fields.minutes.value);
      values.reason ||= "no reason given";
    }
    return values;
  };
  const tell = ({ done, outcomes }) => {
    const box = document.getElementById("outcomes"), list = box.querySelector("ul");
    box.querySelector("h2").textContent = `${done} of ${outcomes.length} done`;
    list.replaceChildren(...outcomes.map(({ alert, name, status, detail }) => {
      const line = document.createElement("li"), link = document.createElement("a");
      const text = document.createElement("span");
      link.href = `/alerts/${alert}`;
      link.textContent = name;
      text.textContent = detail;
      if (status !== 200) text.className = "bad";
      line.append(link, ": ", text);
      return line;
    }));
    for (const each of boxes()) each.checked = false;
    box.hidden = false;
    focus(box.querySelector("h2"));
  };
  if (bar) {
    document.addEventListener("change", (event) => { if (event.target.matches("[data-pick]")) ticked(); });
    bar.querySelector("[data-all]").addEventListener("click", () => {
      const on = ticks().length < Math.min(boxes().length, MOST_TOGETHER);
      boxes().forEach((box, number) => { box.checked = on && number < MOST_TOGETHER; });
      if (!on) boxes()[0].focus();  // the bar goes
      ticked();
    });
    document.querySelector("#outcomes [data-close]").addEventListener("click", () => {
      document.getElementById("outcomes").hidden = true;
    });
    addEventListener("pageshow", ticked);  // a browser may have kept what was ticked
    ticked();
  }

  // Filters: what is chosen is the address, so that it can be kept and shared ------------------------------------
  for (const form of document.querySelectorAll("[data-filters]")) {
    let wait;
    form.addEventListener("input", () => {
      clearTimeout(wait);
      wait = setTimeout(() => {
        const chosen = new URLSearchParams();
        for (const [name, value] of new FormData(form)) if (value) chosen.set(name, value);
        history.replaceState(null, "", `${form.getAttribute("action")}?${chosen}`);
        refresh();
      }, 250);
    });
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  // Live regions are fetched as the server renders them ----------------------------------------------------------
  const busy = (region) => {
    const active = document.activeElement;
    const typing = region.contains(active) && active.matches("input:not([type=checkbox]), select, textarea");
    return typing || region.querySelector("details[open]");
  };
  const inForm = (root, id) => {
    const form = id && root.querySelector(`#${CSS.escape(id)}`);
    return form && (form.closest("details:not([open])")?.querySelector("summary") || form.querySelector("button"));
  };
  // Who is on a link, a form's button or a heading in a region that is replaced finds themselves on the same one.
  const replace = (region, next) => {
    const active = region.contains(document.activeElement) ? document.activeElement : null;
    const link = active?.closest("a[href]")?.getAttribute("href");
    const form = (active?.closest("form") || active?.closest("details")?.querySelector("form"))?.id;
    const picked = new Set([...region.querySelectorAll("[data-pick]:checked")].map((box) => box.value));
    region.replaceWith(document.adoptNode(next));
    for (const box of next.querySelectorAll("[data-pick]")) box.checked = picked.has(box.value);
    if (picked.size) ticked();  // of those that are resolved by now none is
    for (const box of complaints(region)) {
      box.removeAttribute("role");  // it has been said
      place(box, document, next);
    }
    const same = link ? next.querySelector(`a[href="${CSS.escape(link)}"]`)
      : inForm(next, form) || (active?.id && next.querySelector(`#${CSS.escape(active.id)}`));
    if (same) focus(same);
  };
  const equal = (region, next) => {
    const plain = region.cloneNode(true);
    for (const box of complaints(plain)) box.remove();
    return plain.isEqualNode(next);
  };
  let running = null, again = false, pending;
  // Regions that news of these kinds change, all without; one in which somebody writes only when it is `forced`.
  const refresh = async (kinds = null, forced = "") => {
    if (running && !forced) { again = true; return; }
    while (running) await running;
    running = load(kinds, forced);
    await running;
    running = null;
    if (again) { again = false; refresh(); }
  };
  const load = async (kinds, forced) => {
    const wanted = (region) => !kinds || region.dataset.live.split(" ").some((kind) => kinds.has(kind));
    const regions = [...document.querySelectorAll("[data-live]")].filter(wanted);
    // On most pages it is only how many alerts are open: no whole page is made for that.
    const address = regions.every((region) => region.id === "open-alerts") ? "/opened" : location.href;
    try {
      const answer = await fetch(address, { headers: { "x-refresh": "1" } });
      if (answer.redirected) { location.reload(); return; }
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      times.local(fresh);
      for (const region of regions) {
        const next = fresh.getElementById(region.id);
        if ((busy(region) && region.id !== forced) || equal(region, next)) continue;
        if (next) replace(region, next); else region.remove();
      }
    } catch { /* the next event tries again */ }
  };
  const kinds = new Set();
  const soon = (kind) => {
    if (!document.querySelector(`[data-live~="${kind}"]`)) return;
    kinds.add(kind);
    pending ??= setTimeout(() => { // whatever comes meanwhile: a steady trickle must not put it off for ever
      const now = new Set(kinds);
      kinds.clear();
      pending = null;
      refresh(now);
    }, 150);
  };
  // A region in which something was open may be behind.
  document.addEventListener("toggle", (event) => {
    if (!event.target.open && event.target.isConnected && event.target.closest("[data-live]")) refresh();
  }, true);
  for (const region of document.querySelectorAll("[data-every]")) {
    setInterval(() => soon(region.dataset.live), 1000 * Number(region.dataset.every));
  }

  // Events --------------------------------------------------------------------------------------------------------
  const link = document.getElementById("link");
  const items = document.getElementById("items");
  if (link) {
    let events = null, opened = false;
    const state = (text) => {
      if (link.textContent !== text) link.textContent = text;
      link.classList.toggle("on", text === "live");
    };
    const listen = () => {
      if (events || document.hidden) return;
      events = new EventSource(`/api/v1/events${items ? "?items=true" : ""}`);
      events.addEventListener("open", () => {
        state("live");
        link.title = "Kept up to date";
        said = "";
        if (opened) soon("transition"), soon("now"), soon("deed");
        if (items) catchUp();
        opened = true;
      });
      events.addEventListener("beat", (event) => {
        const { since } = JSON.parse(event.data);
        if (!since && !link.classList.contains("on")) refresh();
        state(since ? `not up to date since ${times.clock(since)}` : "live");
      });
      events.addEventListener("error", () => {
        state("not live");
        if (events?.readyState === EventSource.CLOSED) refused();  // else the browser tries again by itself
      });
      events.addEventListener("now", () => soon("now"));
      events.addEventListener("reload", () => refresh());
      events.addEventListener("transition", (event) => {
        const step = JSON.parse(event.data);
        if (["firing", "escalated", "reopened"].includes(step.event) && !step.silenced) {
          toast(`${step.name}: ${step.event === "firing" ? "new alert" : step.event} (${step.severity})`, `/alerts/${step.alert}`);
        }
        soon("transition");
      });
      events.addEventListener("deed", (event) => {
        const { what, target } = JSON.parse(event.data);
        if (what !== "feedback" || location.pathname.endsWith(target)) soon("deed");
      });
      if (items) events.addEventListener("items", (event) => show(JSON.parse(event.data)));
    };
    // A browser does not say why events are refused: ask, tell, and come again when there may be room.
    let retry, said = "";
    const refused = async () => {
      rest();
      const asked = new AbortController();
      let wait_s = 60, why = "";
      try {
        const answer = await fetch("/api/v1/events", { signal: asked.signal });
        if (answer.ok) wait_s = 1;
        else {
          why = (await answer.json()).detail;
          wait_s = [429, 503].includes(answer.status) ? Number(answer.headers.get("retry-after")) || 60 : 0;
        }
      } catch { /* it cannot be reached; there may be no more to say */ }
      asked.abort();
      if (why && why !== said) toast(`This page is not kept up to date: ${why}`);
      said = why;
      if (why) link.title = why;
      clearTimeout(retry);
      if (wait_s) retry = setTimeout(listen, 1000 * wait_s);
    };
    const rest = () => {
      clearTimeout(retry);
      events?.close();
      events = null;
      state("not live");
    };
    // Over HTTP/1.1 a browser keeps six connections to a server: with a page in each of seven tabs the last would wait
    // for ever. Pages that nobody sees keep none.
    document.addEventListener("visibilitychange", () => (document.hidden ? rest() : listen()));
    addEventListener("pagehide", rest);
    addEventListener("pageshow", listen);
  }

  // Stream --------------------------------------------------------------------------------------------------------
  const MOST = 300;
  const pause = document.getElementById("pause");
  let held = [], missed = 0;
  const cell = (tag, ...parts) => { const box = document.createElement(tag); box.append(...parts); return box; };
  const small = (text) => { const box = cell("span", text); box.className = "dim num"; return box; };
  const percent = (value) => small(` ${Math.round(100 * value)} %`);
  const rowOf = (item) => {
    const row = document.createElement("tr");
    row.dataset.id = item.id;
    row.dataset.sentiment = item.sentiment;
    row.dataset.topic = item.topic;
    const time = cell("time", item.seen_at.slice(11, 19));
    time.dateTime = item.seen_at;
    time.dataset.shows = "clock";
    const tag = cell("span", item.sentiment);
    tag.className = `tag s-${item.sentiment}`;
    let title = document.createTextNode(item.title);
    if (/^https?:\/\//i.test(item.url)) {
      title = cell("a", item.title);
      title.href = item.url;
      title.target = "_blank";
      title.rel = "noopener noreferrer nofollow";
    }
    const head = cell("th", title);
    head.scope = "row";
    row.append(cell("td", time), cell("td", tag, percent(item.sentiment_confidence)), head,
      cell("td", item.topic, percent(item.topic_confidence)), cell("td", item.companies.join(", ")),
      cell("td", item.publisher), cell("td", item.source));
    times.local(row);
    return row;
  };
  const filter = (row) => {
    const want = (name) => document.querySelector(`[data-filter="${name}"]`).value;
    const text = want("text").toLowerCase().split(/\s+/).filter(Boolean);
    const has = row.textContent.toLowerCase();
    row.hidden = Boolean((want("sentiment") && row.dataset.sentiment !== want("sentiment"))
      || (want("topic") && row.dataset.topic !== want("topic")) || !text.every((word) => has.includes(word)));
  };
  const note = () => {
    const parts = [];
    if (pause.getAttribute("aria-pressed") === "true") parts.push(`Paused: ${held.length} new items wait.`);
    if (missed) parts.push(`${missed} items came too fast to be shown.`);
    document.getElementById("stream-note").textContent = parts.join(" ") || "The newest items first, as they are scored.";
  };
  const show = (news) => {
    missed += news.skipped;
    const known = new Set([...items.children].map((row) => row.dataset.id).concat(held.map((item) => item.id)));
    held.push(...news.items.filter((item) => !known.has(item.id)));
    held = held.slice(-MOST);
    if (pause.getAttribute("aria-pressed") !== "true") {
      for (const item of held) { const row = rowOf(item); filter(row); items.prepend(row); }
      held = [];
      while (items.children.length > MOST) items.lastElementChild.remove();
    }
    note();
  };
  const catchUp = async () => { // what came before the events, and while they were away
    try {
      const answer = await fetch("/api/v1/stream", { headers: { "x-refresh": "1" } });
      if (answer.ok) show({ items: (await answer.json()).items.reverse(), skipped: 0 });
    } catch { /* the next time */ }
  };
  if (items) {
    pause.addEventListener("click", () => {
      const paused = pause.getAttribute("aria-pressed") !== "true";
      pause.setAttribute("aria-pressed", String(paused));
      pause.textContent = paused ? "Go on" : "Pause";
      show({ items: [], skipped: 0 });
    });
    document.querySelector("[data-stream-filters]").addEventListener("input", () => {
      for (const row of items.children) filter(row);
    });
  }

  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
})();
