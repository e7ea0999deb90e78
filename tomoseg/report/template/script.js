const slider = document.getElementById("z");
const where = document.getElementById("where");

function show() {
  const k = Number(slider.value);
  const text = `z = ${slices.positions[k]} of ${slices.length}`;
  const picture = document.getElementById("xy");
  picture.src = slices.pictures[k];
  picture.alt = `Slice across z at ${slices.positions[k]} of ${slices.length}`;
  document.getElementById("xy-outline").src = slices.outlines[k];
  where.textContent = text;
  slider.setAttribute("aria-valuetext", text);
  const share = `${(100 * (slices.positions[k] + 0.5)) / slices.length}%`;
  document.documentElement.style.setProperty("--cut", share);
}

slider.addEventListener("input", show);
document.getElementById("mask").addEventListener("change", (event) => {
  document.body.classList.toggle("bare", !event.target.checked);
});
show();
