"use strict";
// One viewer, which moves to the molecule whose button was pressed: browsers limit how many a page may have.
const stage = document.createElement("div");
stage.className = "stage";
let viewer = null;
let pressed = null;
function flat() {
  stage.parentElement.classList.remove("turned");
  stage.remove();
  pressed.setAttribute("aria-pressed", "false");
  pressed = null;
}
function turn(button) {
  const scene = JSON.parse(button.dataset.scene);
  const box = button.closest("article").querySelector(".formula");
  box.append(stage);
  box.classList.add("turned");
  button.setAttribute("aria-pressed", "true");
  pressed = button;
  viewer = viewer || $3Dmol.createViewer(stage, { backgroundColor: "white" });
  viewer.removeAllModels();
  viewer.addModel(scene.molfile, "sdf");
  scene.styles.forEach((style, index) => viewer.setStyle({ index }, style));
  viewer.resize();
  viewer.zoomTo();
  viewer.render();
}
for (const button of document.querySelectorAll("button[data-scene]")) {
  button.addEventListener("click", () => {
    const again = pressed === button;
    if (pressed) flat();
    if (!again) turn(button);
  });
}
