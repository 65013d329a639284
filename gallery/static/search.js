"use strict";
// The page's whole behaviour. Texts of the gallery are only ever set as text, never as markup.

const element = (id) => document.getElementById(id);
let about = null; // what /api/gallery says
let threshold = null; // distance up to which a face is named; null: the calibrated one
let shown = []; // faces that were searched, with their nearest faces so far
let browsed = 0; // the first face of the gallery's page
let asked = 0; // the latest question: answers to earlier ones are dropped

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

function faceButton(face, lines, className) {
  const item = make("li");
  const button = make("button", undefined, "face " + (className || ""));
  button.type = "button";
  button.dataset.id = face.id;
  const image = make("img");
  image.src = "/api/faces/" + face.id + "/thumbnail";
  image.alt = face.identity || "a face without a name";
  image.loading = "lazy";
  button.append(image, make("b", face.identity || "–"));
  for (const line of lines) button.append(make("span", line));
  button.addEventListener("click", () => { location.hash = "face=" + face.id; });
  item.append(button);
  return item;
}

function verdictTexts(verdict) {
  if (verdict.name === null) {
    return ["unknown", verdict.reason + "; nearest distance " + verdict.nearest];
  }
  const others = verdict.votes.slice(1, 4).map(([name, votes]) => name + " " + votes);
  return [verdict.name, Math.round(100 * verdict.support) + " % of the nearest faces' votes" +
    (others.length ? "; also " + others.join(", ") : "") + "; nearest distance " +
    verdict.nearest];
}

function showResult(result) {
  const section = make("section", undefined, "result");
  const query = make("div", undefined, "query");
  const image = make("img");
  image.src = result.image || "/api/faces/" + result.id + "/thumbnail";
  image.alt = "the face that was searched";
  const [name, reason] = verdictTexts(result.verdict);
  const texts = make("div");
  if (result.title) texts.append(make("h2", result.title));
  texts.append(make("p", name, "verdict"), make("p", reason, "soft"));
  query.append(image, texts);
  const list = make("ol", undefined, "faces");
  const limit = result.verdict.threshold;
  for (const face of result.neighbours) {
    const within = limit !== null && face.distance <= limit;
    list.append(faceButton(face, ["distance " + face.distance], within ? "within" : "beyond"));
  }
  section.append(query, list);
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
  element("results").replaceChildren(...shown.map(showResult));
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
    say(count === 0 ? "No face was found on " + photograph.name + "." :
      count === 1 ? "One face was searched." : count + " faces were searched.", count === 0);
    if (threshold !== null) await judgeAgain();
  } catch (error) {
    if (question === asked) say(error.message, true);
  }
}

async function searchFace(id) {
  const question = ++asked;
  try {
    const found = await ask("/api/faces/" + id + "/neighbours?" + parameters(0));
    if (question !== asked) return;
    found.title = (found.identity || "A face without a name") + ", " + found.place;
    shown = [found];
    showResults();
    say("Faces like the one chosen.");
    scrollTo(0, 0);
  } catch (error) {
    if (question === asked) say(error.message, true);
  }
}

async function judgeAgain() {
  const question = ++asked;
  explainThreshold();
  try {
    const verdicts = await Promise.all(shown.map((result) => ask(
      "/api/neighbours?code=" + result.code + "&offset=0&count=1" +
      (threshold === null ? "" : "&threshold=" + threshold))));
    if (question !== asked) return;
    verdicts.forEach((found, number) => { shown[number].verdict = found.verdict; });
    showResults();
  } catch (error) {
    say(error.message, true);
  }
}

function explainThreshold() {
  const distance = threshold === null ? about.threshold : threshold;
  element("threshold").value = distance === null ? 0 : distance;
  element("distance").textContent = distance === null ? "none" : distance;
  const curve = about.curve;
  if (distance === null) {
    element("meaning").textContent = "Nobody is named: " + about.why_nobody + ".";
  } else if (!curve) {
    element("meaning").textContent = "How many strangers that names is not known.";
  } else {
    const [named, most, missed] = curve.points[distance];
    element("meaning").textContent = "That names " + percent(named) + " of strangers (at most " +
      percent(most) + ", with 95 % confidence, measured with " + curve.probes + " faces" +
      (curve.of_queries ? "" : " of the gallery itself") + ") and misses " + percent(missed) +
      " of the people it knows.";
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
  const place = distance === null ? -9 : 300 * distance / about.num_bits;
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
  if (match) searchFace(match[1]);
}

async function start() {
  try {
    about = await ask("/api/gallery");
  } catch (error) {
    say(error.message, true);
    return;
  }
  element("about").textContent = about.name + ": " + about.faces + " faces of " + about.people +
    " people, codes of " + about.num_bits + " bits, engine " + about.engine;
  element("threshold").max = about.num_bits;
  drawCurve();
  explainThreshold();
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
    threshold = Number(element("threshold").value);
    explainThreshold();
    clearTimeout(waiting);
    waiting = setTimeout(judgeAgain, 100);
  });
  element("calibrated").addEventListener("click", () => {
    threshold = null;
    judgeAgain();
  });
  element("previous").addEventListener("click",
    () => browse(Math.max(0, browsed - about.page)));
  element("next").addEventListener("click", () => browse(browsed + about.page));
  addEventListener("hashchange", followAddress);
  await browse(0);
  followAddress();
}

start();
