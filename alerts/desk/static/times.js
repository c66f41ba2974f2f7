"use strict";
// Shows times in the reader's zone. The server writes them in UTC and says so; without this script they stay as they are.
const times = (() => {
  const named = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const zone = !named || named === "Etc/Unknown" ? "UTC" : named;  // as browsers say that they cannot tell; none formats it
  const inUtc = /^(Etc\/)?(UTC|UCT|Zulu|Universal)$/.test(zone);
  const day = { day: "numeric", month: "short", year: "numeric" };
  const minute = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }, second = { ...minute, second: "2-digit" };
  const format = (parts) => new Intl.DateTimeFormat("en-GB", { ...parts, timeZone: zone });
  const formats = { when: format({ ...day, ...minute }), exact: format({ ...day, ...second }), clock: format(second) };
  const short = format(minute), date = format({ day: "2-digit", month: "short" });
  const offset = new Intl.DateTimeFormat("en-GB", { timeZone: zone, timeZoneName: "shortOffset" });
  const zoneAt = (at) => `${zone} (${offset.formatToParts(at).find((part) => part.type === "timeZoneName").value})`;
  const said = (text) => inUtc ? `${text} UTC` : text;

  // Charts: the labels of their axis stand at round hours of the reader's clock.
  const label = (min) => {
    const at = new Date(min * 60000), text = short.format(at);
    return text === "00:00" ? date.format(at) : text;
  };
  const shiftAt = (min) => -new Date(min * 60000).getTimezoneOffset();
  const axis = (group) => {
    const [begin, end, step, left, scale, y] = group.dataset.axis.split(" ").map(Number);
    const shift = shiftAt(begin), last = end + shiftAt(end);
    const labels = [];
    for (let wall = Math.ceil((begin + shift) / step) * step; wall <= last; wall += step) {
      const min = wall - shiftAt(wall - shift);  // clocks may have been put forward or back since the beginning
      if (min <= begin || min >= end || min + shiftAt(min) !== wall) continue;
      const text = document.createElementNS(group.namespaceURI, "text");
      for (const [name, value] of [["x", (left + scale * (min - begin)).toFixed(1)], ["y", y], ["text-anchor", "middle"]]) {
        text.setAttribute(name, value);
      }
      text.textContent = label(min);
      labels.push(text);
    }
    group.replaceChildren(...labels);
  };

  const local = (root) => {
    if (inUtc) return;
    for (const field of root.querySelectorAll("input[name=zone]")) field.defaultValue = zone;  // which leaves a chosen one alone
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime), shows = time.dataset.shows || "when";
      if (isNaN(at) || "utc" in time.dataset) continue;
      time.dataset.utc = "";
      if (shows === "ago") time.title = `${formats.when.format(at)}, ${zoneAt(at)}; ${time.title}`;
      else {
        time.title = `${zoneAt(at)}; ${time.textContent}${shows === "clock" ? " UTC" : ""}`;
        time.textContent = formats[shows].format(at);
      }
    }
    for (const each of root.querySelectorAll("[data-zone]")) each.textContent = each.dataset.zone.replace("{}", zone);
    for (const group of root.querySelectorAll("[data-axis]")) axis(group);
    for (const each of root.querySelectorAll("[data-at]")) each.textContent = label(Number(each.dataset.at));
    for (const bar of root.querySelectorAll("[data-bin]")) {
      const title = bar.querySelector("title");
      title.textContent = title.textContent.replace(/^.*? UTC/, bar.dataset.bin.split(" ").map(label).join("-"));
    }
  };
  local(document);
  const ahead = Date.parse(document.body.dataset.now) - Date.now() || 0;

  return {
    local,
    when: (text) => said(formats.when.format(new Date(text))),
    clock: (text) => said(short.format(new Date(text))),
    sameDay: (one, other) => date.format(new Date(one)) === date.format(new Date(other)),
    // By the desk's clock, which in a replay is that of the items; as a field for a local time takes it.
    inAnHour: () => {
      const at = new Date(Date.now() + ahead + 3600000);
      return new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
    },
  };
})();
