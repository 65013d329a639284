"use strict";
// The page's whole behaviour. Texts of the gallery are only ever set as text, never as markup.

const element = (id) => document.getElementById(id);
let about = null; // what /api/gallery says
let threshold = null; // distance up to which a face is named; null: the calibrated one
let shown = []; // faces that were searched, with their nearest faces so far
let browsed = 0; // the first face of the gallery's page
let asked = 0; // the latest question: answers to earlier ones are dropped
let chosen = null; // the face whose photograph is shown

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

// A face's photograph, what can be done with it, and its name.
function showFace(face) {
  const image = element("face-image");
  chosen = face;
  element("face-name").textContent = face.person || "A face without a name";
  element("face-place").textContent = face.place;
  element("face-person").value = face.person || "";
  sayOfFace("");
  image.alt = "the photograph, with a frame around the face";
  image.onerror = () => {
    image.onerror = null;
    image.src = "/api/faces/" + face.id + "/thumbnail";
    ask("/api/faces/" + face.id + "/photograph").catch((error) => sayOfFace(error.message, true));
  };
  image.src = "/api/faces/" + face.id + (face.file ? "/photograph" : "/thumbnail");
  element("face").showModal();
}

function sayOfFace(text, isError = false) {
  element("face-status").textContent = text;
  element("face-status").classList.toggle("error", isError);
}

async function nameFace() {
  const face = chosen;
  try {
    const named = await ask("/api/faces/" + face.id + "/name", {
      method: "POST", body: JSON.stringify({name: element("face-person").value}),
      headers: {"Content-Type": "application/json"}});
    element("face").close();
    say("Face " + face.id + " is now " + named.person + ".");
    await showAbout();
    await browse(browsed);
    await searchAgain();
  } catch (error) {
    sayOfFace(error.message, true);
  }
}

// A distance as text: whole of codes, with three decimals of embeddings.
function distanceText(distance) {
  return about.step === 1 ? String(distance) : distance.toFixed(3);
}

// How far a face is, by what decides.
function apart(face) {
  return face.cosine === null ? face.distance : face.cosine;
}

function distanceLines(face) {
  const lines = ["distance " + distanceText(apart(face))];
  if (face.cosine !== null) lines.push("codes: " + face.distance + " bits");
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
  image.alt = "the face that was searched";
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
      count === 1 ? "One face was searched." : count + " faces were searched.", count === 0);
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
      " of the people it knows" + (about.step === 1 ? "" : " by one face") + " (" + curve.source +
      ").";
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
  element("about").textContent = about.name + ": " + about.faces + " faces of " +
    about.people + " people, " + (about.decided_by === "embeddings" ?
      "compared by their embeddings" :
      "codes of " + about.num_bits + " bits, engine " + about.engine);
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
    nameFace();
  });
  addEventListener("hashchange", followAddress);
  await browse(0);
  followAddress();
}

start();
