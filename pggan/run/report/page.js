// The samples over time, the buttons, and the calls that start everything.

const $ = (id) => document.getElementById(id);
const data = (id) => JSON.parse($("data-" + id).textContent);

// ---- samples over time

function film(grids) {
  if (!grids.length) return;
  $("no-grids").hidden = true;
  $("film").hidden = false;
  const [image, slider, play] = [$("grid"), $("slider"), $("play")];
  slider.max = grids.length - 1;
  const stages = segments(grids);
  let timer = 0;

  function show(number) {
    const grid = grids[number];
    image.width = grid.width;
    image.height = grid.height;
    image.src = grid.src;
    image.alt = `Grid of samples at ${grid.caption}`;
    $("caption").textContent = grid.caption;
    slider.value = number;
    slider.setAttribute("aria-valuetext", grid.caption);
    for (const stage of stages) stage.element.classList.toggle("here", number >= stage.first && number < stage.end);
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    play.textContent = "Play";
  }

  function step() {
    const next = Number(slider.value) + 1;
    if (next < grids.length) show(next);
    if (next >= grids.length - 1) stop();
  }

  play.addEventListener("click", () => {
    if (timer) return stop();
    if (Number(slider.value) === grids.length - 1) show(0);
    play.textContent = "Stop";
    timer = setInterval(step, 250);
  });
  slider.addEventListener("input", () => {
    stop();
    show(Number(slider.value));
  });
  show(grids.length - 1);
}

// Labels the parts of the slider with their resolutions; returns [{element, first, end}].
function segments(grids) {
  const found = [];
  grids.forEach((grid, number) => {
    const before = found[found.length - 1];
    if (before && before.res === grid.res) before.end = number + 1;
    else found.push({ res: grid.res, first: number, end: number + 1 });
  });
  for (const part of found) {
    part.element = $("stages").appendChild(document.createElement("span"));
    part.element.textContent = `${part.res} px`;
    part.element.style.flexGrow = part.end - part.first;
  }
  return found;
}

// ---- commands, and the age of the page

function copying() {
  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", async () => {
      const code = $(button.dataset.copies);
      getSelection().selectAllChildren(code);
      const done = await navigator.clipboard?.writeText(code.textContent).then(() => true, () => false);
      button.textContent = done || document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
  }
}

// Tells how old the page is, and warns if the run should have updated it since.
function age() {
  const time = document.querySelector("time"), passed = (Date.now() - Date.parse(time.dateTime)) / 1000;
  if (passed < 120) return;
  const ago = passed < 172800 ? seconds(passed) : `${plain(passed / 86400, 3)} days`;
  const stale = time.dataset.goingOn === "yes" && passed > 3600;
  const advice = ": reload the page; if this stays, training may have been interrupted";
  $("age").textContent = `, ${ago} ago` + (stale ? advice : "");
}

film(data("grids"));
curves(data("curves"));
copying();
age();
