"use strict";
// The page's whole behaviour. Texts of the gallery are only ever set as text, never as markup.

const element = (id) => document.getElementById(id);
let about = null; // what /api/gallery says
let threshold = null; // distance up to which a face is named; null: the calibrated one
let shown = []; // faces that were searched, with their nearest faces so far
let browsed = 0; // the first face of the gallery's page
let asked = 0; // the latest question: answers to earlier ones are dropped
let chosen = null; // the face, or photograph without one, that is shown
let drawn = null; // the box that is drawn on it: left, top, right, bottom, as shares
let group = null; // the person or group that is shown, with its faces so far
let marked = new Set(); // ids of its faces that are chosen
let grouped = 0; // the first group of the page of groups
let merging = null; // the person or group that waits for the other half of a merge

async function ask(address, options) {
  const answer = await fetch(address, options);
  let value = null;
  try {
    value = await answer.json();
  } catch (error) {
    value = {};
  }
  if (!answer.ok) {
    throw new Error(value.error || "the server refused it (" + answer.status + ")");
  }
  return value;
}

function say(text, isError = false) {
  element("status").textContent = text;
  element("status").classList.toggle("error", isError);
}

function make(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function parameters(offset) {
  return "offset=" + offset + "&count=" + about.page +
    (threshold === null ? "" : "&threshold=" + threshold);
}

function percent(share) {
  return share === null ? "an unknown share" : (100 * share).toFixed(share < 0.1 ? 1 : 0) + " %";
}

// The last part of a path, or what stands for one.
function lastPart(place) {
  return place.split(/[\\/]/).pop();
}

// The name of a face's file; between its parts a line may break.
function fileName(face) {
  const shown = make("span", undefined, "file");
  lastPart(face.place).split(/(?<=[_\-. ])/).forEach((part, number) => {
    if (number) shown.append(make("wbr"));
    shown.append(part);
  });
  return shown;
}

function faceButton(face, lines, className) {
  const item = make("li");
  const button = make("button", undefined, "face " + (className || ""));
  button.type = "button";
  button.dataset.id = face.id;
  button.title = [face.person, face.place].filter(Boolean).join(", ");
  const image = make("img");
  image.src = "/api/faces/" + face.id + "/thumbnail";
  image.alt = face.person || "a face without a name";
  image.loading = "lazy";
  button.append(image, make("b", face.person || "–"));
  for (const line of lines) button.append(make("span", line));
  button.append(fileName(face));
  button.addEventListener("click", () => showFace(face));
  item.append(button);
  return item;
}

// A face's photograph, what can be done with it, and its name; or a photograph without a face.
function showFace(face) {
  const image = element("face-image");
  const isFace = face.id !== undefined;
  const address = isFace ? "/api/faces/" + face.id + (face.file ? "/photograph" : "/thumbnail") :
    "/api/photographs/" + face.photograph;
  chosen = face;
  element("face-name").textContent = !isFace ? "No face was found" :
    face.person || "A face without a name";
  element("face-place").textContent = face.place;
  element("face-similar").hidden = !isFace;
  element("face-reject").hidden = !isFace || !face.person;
  element("face-mark").hidden = !isFace || !(face.photograph > 0);
  sayOfFace("");
  image.alt = isFace ? "the photograph, with a frame around the face" : "the photograph";
  image.onerror = () => {
    image.onerror = null;
    if (isFace) image.src = "/api/faces/" + face.id + "/thumbnail";
    ask(address).catch((error) => sayOfFace(error.message, true));
  };
  image.src = address;
  setMarking(!isFace);
  element("face").showModal();
}

// Whether a drag over the photograph draws a box, and what is saved: the box, or the face's name.
function setMarking(isOn) {
  drawn = null;
  element("face-box").hidden = true;
  element("face-picture").classList.toggle("marking", isOn);
  element("face-mark").setAttribute("aria-pressed", String(isOn));
  element("face-person").value = isOn ? "" : chosen.person || "";
  element("face-person").required = !isOn;
  element("face-question").textContent = isOn ?
    "Draw a box around the face. Who is it, if you know?" : "Who is this?";
  element("face-save").textContent = isOn ? "Add the face" : "Save the name";
}

function isMarking() {
  return element("face-picture").classList.contains("marking");
}

function drawBox(event) {
  const frame = element("face-picture").getBoundingClientRect();
  const share = (value, start, size) => Math.min(1, Math.max(0, (value - start) / size));
  const here = [share(event.clientX, frame.left, frame.width),
    share(event.clientY, frame.top, frame.height)];
  if (event.type === "pointerdown") {
    element("face-picture").setPointerCapture(event.pointerId);
    drawn = {from: here};
  }
  const [x, y] = drawn.from;
  drawn.box = [Math.min(x, here[0]), Math.min(y, here[1]), Math.max(x, here[0]),
    Math.max(y, here[1])];
  const [left, top, right, bottom] = drawn.box;
  const box = element("face-box");
  Object.assign(box.style, {left: 100 * left + "%", top: 100 * top + "%",
    width: 100 * (right - left) + "%", height: 100 * (bottom - top) + "%"});
  box.hidden = false;
}

function sayOfFace(text, isError = false) {
  element("face-status").textContent = text;
  element("face-status").classList.toggle("error", isError);
}

async function saveFace() {
  const name = element("face-person").value;
  if (!isMarking()) {
    await change({do: "name", ids: [chosen.id], name}, sayOfFace, "Face " + chosen.id +
      " is now " + name + ".", "face");
  } else if (drawn === null) {
    sayOfFace("Draw a box around the face first.", true);
  } else {
    sayOfFace("Adding the face …");
    await change({do: "mark", photograph: chosen.photograph, box: drawn.box, name}, sayOfFace,
      "The face was added.", "face");
  }
}

// Asks for a change, says what was done, and shows everything as it is now.
async function change(values, sayError, text, dialog) {
  try {
    await ask("/api/change", {method: "POST", body: JSON.stringify(values),
      headers: {"Content-Type": "application/json"}});
  } catch (error) {
    sayError(error.message, true);
    return;
  }
  if (dialog) element(dialog).close();
  sayOfGroups(text);
  await showAll();
}

async function showAll() {
  await showAbout();
  await Promise.all([browse(browsed), showGroups(grouped), showWithout(false)]);
  if (shown.length) await searchAgain();
  if (element("group").open) await showGroup(group.who);
}

// People, and groups of faces without a name

function sayOfGroups(text, isError = false) {
  element("groups-status").textContent = text;
  element("groups-status").classList.toggle("error", isError);
}

function sayOfGroup(text, isError = false) {
  element("group-status").textContent = text;
  element("group-status").classList.toggle("error", isError);
}

function counted(count, what) {
  return count + " " + what + (count === 1 ? "" : "s");
}

function faceImage(id, text) {
  const image = make("img");
  image.src = "/api/faces/" + id + "/thumbnail";
  image.alt = text;
  image.loading = "lazy";
  return image;
}

function groupButton(found) {
  const button = make("button", undefined, "face");
  button.type = "button";
  button.dataset.who = found.who;
  button.title = found.name || "faces without a name";
  const examples = make("span", undefined, "examples");
  examples.append(...found.examples.map((id) => faceImage(id, "")));
  button.append(examples, make("b", found.name || "Who is this?"),
    make("span", counted(found.size, "face"), "file"));
  button.addEventListener("click", () => merging === null ? showGroup(found.who) :
    mergeInto(found.who));
  const item = make("li");
  item.append(button);
  return item;
}

// The next click on a group says which other one shows the same person.
function startMerge() {
  merging = group.who;
  element("group").close();
  sayOfGroups("Now choose the other group, or the same one to go back.");
  element("groups-section").scrollIntoView();
  element("groups").querySelector("button").focus();
}

async function mergeInto(who) {
  const first = merging;
  merging = null;
  if (who === first) {
    sayOfGroups("");
  } else {
    await change({do: "merge", who: first, into: who}, sayOfGroups, "They are one person now.");
  }
}

function suggestionItem({first, second, distance}) {
  const item = make("li");
  const pair = make("div", undefined, "pair");
  for (const found of [first, second]) {
    const button = make("button");
    button.type = "button";
    button.title = (found.name || "faces without a name") + ", " + found.size;
    button.append(faceImage(found.examples[0], button.title),
      make("span", found.name || counted(found.size, "face")));
    button.addEventListener("click", () => showGroup(found.who));
    pair.append(button);
  }
  item.title = "mean distance " + distance.toFixed(3);
  const answers = [["Same person", {do: "merge", who: first.who, into: second.who}],
    ["Two people", {do: "keep_apart", who: first.who, other: second.who}]].map(
    ([text, values]) => {
      const button = make("button", text);
      button.type = "button";
      button.addEventListener("click", () => change(values, sayOfGroups, ""));
      return button;
    });
  const buttons = make("div", undefined, "answers");
  buttons.append(...answers);
  item.append(pair, buttons);
  return item;
}

async function showGroups(offset) {
  try {
    const found = await ask("/api/groups?offset=" + offset + "&count=" + about.page);
    if (offset && !found.groups.length) {
      await showGroups(Math.max(0, offset - about.page));
      return;
    }
    grouped = offset;
    element("groups-section").hidden = !found.total && !found.last_step;
    element("groups-about").textContent = "Similar faces. Naming a group names all its " +
      "faces." + (found.single ? " Similar to no other: " + counted(found.single, "face") +
      "." : "");
    element("groups").replaceChildren(...found.groups.map(groupButton));
    element("suggestions").replaceChildren(...found.suggestions.map(suggestionItem));
    element("perhaps").hidden = !found.suggestions.length;
    element("groups-pages").textContent = found.total ? (offset + 1) + " to " +
      (offset + found.groups.length) + " of " + found.total : "";
    element("groups-previous").disabled = offset === 0;
    element("groups-next").disabled = offset + found.groups.length >= found.total;
    element("groups-next").parentElement.hidden = found.total <= about.page;
    element("undo").hidden = !found.last_step;
    element("undo").textContent = element("undo").title = "Undo: " + found.last_step;
  } catch (error) {
    sayOfGroups(error.message, true);
  }
}

async function showGroup(who, more = 0) {
  try {
    const found = await ask("/api/group?who=" + encodeURIComponent(who) + "&offset=" + more +
      "&count=" + about.page);
    group = more ? Object.assign(found, {faces: group.faces.concat(found.faces)}) : found;
    const here = new Set(group.faces.map((face) => face.id));
    marked = new Set([...marked].filter((id) => element("group").open && here.has(id)));
  } catch (error) { // it has become another one
    if (element("group").open) element("group").close();
    return;
  }
  element("group-name").textContent = (group.name ? group.name + ", " : "") +
    counted(group.size, "face");
  element("group-person").value = group.name || "";
  element("group-about").textContent = "Choose faces that do not belong here. Those most like " +
    "the others come first.";
  element("group-faces").replaceChildren(...group.faces.map(chosenButton));
  element("group-more").hidden = group.faces.length >= group.total;
  showChosen();
  if (!element("group").open) {
    sayOfGroup("");
    element("group").showModal();
  }
}

function chosenButton(face) {
  const item = faceButton(face, []);
  const button = item.firstChild.cloneNode(true); // less its showing the photograph
  button.querySelector("b").remove();
  button.setAttribute("aria-pressed", String(marked.has(face.id)));
  button.addEventListener("click", () => {
    if (!marked.delete(face.id)) marked.add(face.id);
    button.setAttribute("aria-pressed", String(marked.has(face.id)));
    showChosen();
  });
  item.replaceChildren(button);
  return item;
}

function showChosen() {
  element("group-chosen").hidden = !marked.size;
  element("group-count").textContent = marked.size + " chosen";
}

async function nameGroup() {
  const name = element("group-person").value.trim();
  if (group.name === null) {
    await change({do: "name_group", who: group.who, name}, sayOfGroup,
      group.size + " faces are now " + name + ".", "group");
  } else {
    await change({do: "rename", old: group.who, new: name}, sayOfGroup,
      group.name + " is now " + name + ".", "group");
  }
}

// Photographs in which no face was found; `more` asks for the next ones.
async function showWithout(more) {
  const list = element("without-list");
  const offset = more ? list.children.length : 0;
  const found = await ask("/api/photographs?offset=" + offset + "&count=" + about.page);
  const items = found.photographs.map((photograph) => {
    const item = make("li");
    const button = make("button", lastPart(photograph.place));
    button.type = "button";
    button.title = photograph.place;
    button.addEventListener("click", () => showFace(photograph));
    item.append(button);
    return item;
  });
  if (more) list.append(...items);
  else list.replaceChildren(...items);
  element("without").hidden = !found.total;
  element("without-about").textContent = counted(found.total, "photograph") + " without a face";
  element("without-more").hidden = list.children.length >= found.total;
}

// A distance as text: whole of codes, with three decimals of vectors.
function distanceText(distance) {
  return about.step === 1 ? String(distance) : distance.toFixed(3);
}

// How far a face is, by what decides.
function apart(face) {
  return face.cosine_distance === null ? face.distance : face.cosine_distance;
}

function distanceLines(face) {
  const lines = ["distance " + distanceText(apart(face))];
  if (face.cosine_distance !== null) lines.push("codes: " + face.distance + " bits");
  return lines;
}

function verdictTexts(verdict) {
  if (verdict === null) return ["unknown", "the gallery is empty"];
  if (verdict.probable) {
    const found = verdict.probable;
    return ["probably " + found.name, found.count + " of the " + found.of +
      " nearest faces, distances " + distanceText(found.nearest) + " to " +
      distanceText(found.farthest) +
      "; not named, since " + verdict.reason];
  }
  if (verdict.name === null) {
    return ["unknown", verdict.reason + "; nearest distance " + distanceText(verdict.nearest)];
  }
  const others = verdict.votes.slice(1, 4).map(([name, votes]) => name + " " + votes);
  return [verdict.name, Math.round(100 * verdict.support) + " % of the nearest faces' votes" +
    (others.length ? "; also " + others.join(", ") : "") + "; nearest distance " +
    distanceText(verdict.nearest)];
}

function queryImage(result) {
  const image = make("img");
  image.src = result.image || "/api/faces/" + result.id + "/thumbnail";
  image.alt = "the face searched for";
  return image;
}

function showAnswer(result) {
  const section = make("section", undefined, "answer");
  const [name, reason] = verdictTexts(result.verdict);
  const texts = make("div");
  texts.append(make("h2", result.title), make("p", name, "verdict"), make("p", reason, "soft"));
  if (result.same && result.same.length) {
    texts.append(make("p", "This very photograph is in the gallery: " +
      result.same.map(lastPart).join(", "), "soft"));
  }
  section.append(queryImage(result), texts);
  return section;
}

function showResult(result, number) {
  const section = make("section", undefined, "result");
  const limit = result.verdict && result.verdict.threshold;
  const list = make("ol", undefined, "faces");
  for (const face of result.neighbours) {
    const within = limit !== null && apart(face) <= limit;
    list.append(faceButton(face, distanceLines(face), within ? "within" : ""));
  }
  section.append(
    make("h2", "Nearest faces" + (shown.length > 1 ? " of face " + (number + 1) : "")),
    make("p", limit === null ? "" : "Framed faces are within distance " + distanceText(limit) +
      ".", "soft"), list);
  if (result.more_ties) {
    section.append(make("p", result.more_ties + " more lie as far as the last one.", "soft"));
  }
  if (result.neighbours.length < result.total) {
    const more = make("button", "Show more", "more");
    more.type = "button";
    more.addEventListener("click", () => showMore(result, more));
    section.append(more);
  }
  return section;
}

function showResults() {
  element("answers").replaceChildren(...shown.map(showAnswer));
  element("results").replaceChildren(...shown.map(showResult));
  const note = about.caution ? "Caution: " + about.caution : about.rate_text;
  element("caution").hidden = !shown.length || !note || threshold !== null;
  element("caution").textContent = note.charAt(0).toUpperCase() + note.slice(1) + ".";
  element("naming").hidden = !shown.length || !about.faces;
}

async function showMore(result, button) {
  button.disabled = true;
  try {
    const place = shown.indexOf(result);
    const before = result.neighbours.length;
    const found = await ask("/api/neighbours?code=" + result.code + "&" + parameters(before));
    result.neighbours.push(...found.neighbours);
    result.more_ties = found.more_ties;
    showResults();
    const faces = element("results").children[place].querySelectorAll(".face");
    if (faces[before]) faces[before].focus();
  } catch (error) {
    say(error.message, true);
    button.disabled = false;
  }
}

async function search(photograph) {
  if (photograph.size > about.most_bytes) {
    say("The photograph is larger than " + about.most_bytes / 1e6 + " MB.", true);
    return;
  }
  const question = ++asked;
  say("Searching " + photograph.name + " …");
  try {
    const found = await ask("/api/query?" + parameters(0), {
      method: "POST", body: photograph, headers: {"Content-Type": "application/octet-stream"}});
    if (question !== asked) return;
    history.replaceState(null, "", "#");
    const count = found.faces.length;
    shown = found.faces.map((face, number) => Object.assign(face, {
      title: photograph.name + (count > 1 ? ", face " + (number + 1) + " of " + count : "")}));
    showResults();
    say(count === 0 ? "No face was found in " + photograph.name + "." :
      count === 1 ? "Searched for one face." : "Searched for " + count + " faces.", count === 0);
    if (threshold !== null) await searchAgain();
  } catch (error) {
    if (question === asked) say(error.message, true);
  }
}

async function searchFace(id) {
  const question = ++asked;
  try {
    const found = await ask("/api/faces/" + id + "/neighbours?" + parameters(0));
    if (question !== asked) return;
    found.title = (found.person || "A face without a name") + ", " + lastPart(found.place);
    shown = [found];
    showResults();
    say("Faces like the one chosen.");
    scrollTo(0, 0);
  } catch (error) {
    if (question === asked) say(error.message, true);
  }
}

// Asks for what is shown once more: by another threshold, or after a change of the gallery.
async function searchAgain() {
  const question = ++asked;
  explainThreshold();
  try {
    const found = await Promise.all(shown.map((result) => ask(
      "/api/neighbours?code=" + result.code + "&offset=0&count=" +
      Math.min(200, Math.max(1, result.neighbours.length)) +
      (threshold === null ? "" : "&threshold=" + threshold))));
    if (question !== asked) return;
    found.forEach((answer, number) => Object.assign(shown[number], answer));
    showResults();
  } catch (error) {
    say(error.message, true);
  }
}

function explainThreshold() {
  const distance = threshold === null ? about.threshold : threshold;
  const place = distance === null ? 0 : Math.round(distance / about.step);
  element("threshold").value = place;
  element("distance").textContent = distance === null ? "none" : distanceText(distance);
  const curve = about.curve;
  if (distance === null) {
    element("meaning").textContent = "Nobody is named: " + about.why_nobody + ".";
  } else if (!curve) {
    element("meaning").textContent = "It is not known how many strangers that names.";
  } else {
    const [named, most, missed] =
      curve.points[Math.min(place, curve.points.length - 1)];
    element("meaning").textContent = "That names " + percent(named) + " of strangers (at most " +
      percent(most) + ", with 95 % confidence) and misses " + percent(missed) +
      " of the people it knows" + (about.decided_by === "embeddings" ? " by one face" : "") +
      " (" + curve.source + ").";
  }
  element("calibrated").disabled = threshold === null;
  markCurve(distance);
}

// The share of strangers named, and of known people missed, by distance; a line shows the threshold.
function drawCurve() {
  const points = about.curve ? about.curve.points : [];
  element("curve").hidden = !points.length;
  if (!points.length) return;
  const line = (which) => points.map((point, distance) =>
    (300 * distance / (points.length - 1)).toFixed(1) + "," + (100 - 100 * point[which]).toFixed(1)
  ).join(" ");
  element("strangers").setAttribute("points", line(0));
  element("missed").setAttribute("points", points[0][2] === null ? "" : line(2));
}

function markCurve(distance) {
  const steps = about.curve ? about.curve.points.length - 1 : 1;
  const place = distance === null ? -9 : 300 * distance / about.step / steps;
  element("mark").setAttribute("x1", place);
  element("mark").setAttribute("x2", place);
}

async function browse(offset) {
  try {
    const found = await ask("/api/faces?offset=" + offset + "&count=" + about.page);
    browsed = offset;
    element("gallery").replaceChildren(...found.faces.map((face) => faceButton(face, [])));
    element("pages").textContent = found.faces.length ? (offset + 1) + " to " +
      (offset + found.faces.length) + " of " + found.total : "no faces";
    element("previous").disabled = offset === 0;
    element("next").disabled = offset + found.faces.length >= found.total;
  } catch (error) {
    say(error.message, true);
  }
}

function followAddress() {
  const match = /^#face=(\d{1,15})$/.exec(location.hash);
  if (element("face").open) element("face").close();
  if (match) searchFace(match[1]);
}

async function showAbout() {
  about = await ask("/api/gallery");
  element("about").textContent = about.name + ": " + counted(about.faces, "face") + " of " +
    (about.people === 1 ? "1 person, " : about.people + " people, ") +
    (about.decided_by === "codes" ?
      "codes of " + about.num_bits + " bits, engine " + about.engine :
      "compared by their " + about.decided_by);
  const people = await ask("/api/people");
  element("people").replaceChildren(...people.names.map((name) => {
    const option = make("option");
    option.value = name;
    return option;
  }));
  element("threshold").max = about.curve ? about.curve.points.length - 1 : about.num_bits;
  drawCurve();
  explainThreshold();
}

async function start() {
  try {
    await showAbout();
  } catch (error) {
    say(error.message, true);
    return;
  }
  element("photograph").addEventListener("change", () => {
    if (element("photograph").files.length) search(element("photograph").files[0]);
    element("photograph").value = ""; // so that the same one can be chosen again
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", () => document.body.classList.remove("dragging"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    if (event.dataTransfer.files.length) search(event.dataTransfer.files[0]);
  });
  element("upload").addEventListener("submit", (event) => event.preventDefault());
  let waiting = null;
  element("threshold").addEventListener("input", () => {
    threshold = Number((about.step * element("threshold").value).toFixed(4));
    explainThreshold();
    clearTimeout(waiting);
    waiting = setTimeout(searchAgain, 100);
  });
  element("calibrated").addEventListener("click", () => {
    threshold = null;
    searchAgain();
  });
  element("previous").addEventListener("click",
    () => browse(Math.max(0, browsed - about.page)));
  element("next").addEventListener("click", () => browse(browsed + about.page));
  element("face-close").addEventListener("click", () => element("face").close());
  element("face-similar").addEventListener("click", () => {
    if (location.hash === "#face=" + chosen.id) followAddress();
    location.hash = "face=" + chosen.id;
  });
  element("face-naming").addEventListener("submit", (event) => {
    event.preventDefault();
    saveFace();
  });
  element("face-reject").addEventListener("click", () => change(
    {do: "reject", ids: [chosen.id]}, sayOfFace, "That face is not " + chosen.person + ".",
    "face"));
  element("face-mark").addEventListener("click", () => setMarking(!isMarking()));
  for (const kind of ["pointerdown", "pointermove"]) {
    element("face-picture").addEventListener(kind, (event) => {
      if (!isMarking() || (kind === "pointermove" && !event.buttons) ||
          (kind === "pointermove" && !drawn)) return;
      event.preventDefault();
      drawBox(event);
    });
  }
  element("group-close").addEventListener("click", () => element("group").close());
  element("group-naming").addEventListener("submit", (event) => {
    event.preventDefault();
    nameGroup();
  });
  element("group-merge").addEventListener("click", startMerge);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && merging !== null) mergeInto(merging);
  });
  element("group-more").addEventListener("click", () => showGroup(group.who, group.faces.length));
  for (const [kind, text] of [["reject", " somebody else."], ["split", " another person."]]) {
    element("group-" + kind).addEventListener("click", () => change(
      {do: kind, ids: [...marked]}, sayOfGroup,
      counted(marked.size, "face") + (marked.size === 1 ? " is" : " are") + text));
  }
  element("undo").addEventListener("click", () => change({do: "undo"}, sayOfGroups, "Undone."));
  element("groups-previous").addEventListener("click",
    () => showGroups(Math.max(0, grouped - about.page)));
  element("groups-next").addEventListener("click", () => showGroups(grouped + about.page));
  element("without-more").addEventListener("click", () => showWithout(true));
  addEventListener("hashchange", followAddress);
  await Promise.all([browse(0), showGroups(0), showWithout(false)]);
  followAddress();
}

start();
