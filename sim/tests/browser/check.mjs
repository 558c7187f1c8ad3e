// Opens report.html from disk in chromium and fails on a console message, on any request but the file itself, or
// when a toggle, a sort, a key or a pointer does not do what it should. `node check.mjs OUT`.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const out = resolve(process.argv[2]);
const shots = `${out}/screenshots`;
mkdirSync(shots, { recursive: true });
const results = JSON.parse(readFileSync(`${out}/demo/results.json`, "utf8"));
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--font-render-hinting=none",
  ],
});

async function open(folder, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const trouble = [];
  const url = pathToFileURL(`${out}/${folder}/report.html`).href;
  page.on("console", (message) => trouble.push(`console ${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => trouble.push(`error: ${error}`));
  page.on("dialog", (dialog) => { trouble.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => {
    const loads = request.url();
    if (loads !== url && !loads.startsWith("data:")) trouble.push(`request: ${loads}`);
  });
  await page.goto(url);
  return { page, trouble, close: async () => { assert.deepEqual(trouble, [], folder); await context.close(); } };
}

async function step(name, work) {
  await work();
  console.log(`ok: ${name}`);
}

await step("light: every figure is there, and looks as the screenshots show", async () => {
  const { page, close } = await open("demo");
  assert.equal(await page.locator("figure.chart").count(), 8 + 6 + results.policies.length + 1);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, "too wide");
  await page.screenshot({ path: `${shots}/light.png`, fullPage: true });
  for (const section of await page.locator("section").all()) {
    await section.screenshot({ path: `${shots}/light-${await section.getAttribute("id")}.png` });
  }
  await close();
});

await step("a policy can be hidden and shown in every figure and table", async () => {
  const { page, close } = await open("demo");
  const visible = () => page.locator('[data-p="1"]:visible').count();
  const button = page.locator("#policies button").nth(1);
  const before = await visible();
  assert.ok(before > 20, `${before}`);
  await button.click();
  assert.equal(await visible(), 0);
  assert.equal(await button.getAttribute("aria-pressed"), "false");
  await page.screenshot({ path: `${shots}/light-one-hidden.png` });
  await page.getByRole("button", { name: "Show all" }).click();
  assert.equal(await visible(), before);
  await close();
});

await step("toggles work with the keyboard alone", async () => {
  const { page, close } = await open("demo");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  const focused = () => page.evaluate(() => document.activeElement.textContent);
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "all notes");
  await page.keyboard.press("Tab");
  assert.equal(await focused(), results.policies[0].label);
  await page.keyboard.press("Space");
  assert.equal(await page.locator('[data-p="0"]:visible').count(), 0);
  await page.keyboard.press("Enter");
  assert.ok(await page.locator('[data-p="0"]:visible').count() > 0);
  await close();
});

await step("the table sorts by a number, both ways, and by a word; scales can be chosen", async () => {
  const { page, close } = await open("demo");
  const shown = page.locator("#all-scores tbody tr:visible");
  const rows = results.policies.length;
  assert.equal(await shown.count(), rows);
  const head = page.locator("#all-scores thead th").nth(2);
  const column = () => shown.evaluateAll((all) => all.map((row) => Number(row.cells[2].dataset.v)));
  const exact = results.policies.map((policy) => policy.attainment_pct.e2e).sort((a, b) => b - a);
  await head.getByRole("button").click();
  assert.deepEqual(await column(), exact);
  assert.equal(await head.getAttribute("aria-sort"), "descending");
  await head.getByRole("button").click();
  assert.deepEqual(await column(), exact.reverse());
  await page.locator("#all-scores thead th").first().getByRole("button").press("Enter");
  const names = await shown.evaluateAll((all) => all.map((row) => row.cells[0].textContent.trim()));
  assert.deepEqual(names, [...names].sort((a, b) => a.localeCompare(b)));
  await page.locator(".choices button", { hasText: "all" }).click();
  assert.equal(await shown.count(), rows * results.policies[0].by_slo_scale.length);
  await close();
});

await step("a pointer reads values, and not those of a hidden policy", async () => {
  const { page, close } = await open("demo");
  const plot = page.locator("#slo .plot").first();
  await plot.scrollIntoViewIfNeeded();
  await plot.locator("svg").hover({ position: { x: 120, y: 80 } });
  const tip = plot.locator(".tip");
  const text = await tip.textContent();
  const at = results.policies[0].by_slo_scale.find(({ scale }) => text.includes(`SLO scale ${scale}×`));
  assert.ok(text.includes(`${results.policies[0].label}${at.attainment_pct.e2e.toFixed(1)} %`), text);
  await page.screenshot({ path: `${shots}/light-hover.png` });
  await page.locator("#policies button").first().click();
  await plot.locator("svg").hover({ position: { x: 121, y: 80 } });
  assert.ok(!(await tip.textContent()).includes(results.policies[0].label));
  for (const id of ["spread", "usage", "held-up"]) {
    const other = page.locator(`#${id} .plot:visible`).first();
    await other.scrollIntoViewIfNeeded();
    const box = await other.locator("svg").boundingBox();
    await other.locator("svg").hover({ position: { x: box.width * 0.6, y: box.height * 0.5 } });
    await page.screenshot({ path: `${shots}/light-hover-${id}.png` });
  }
  await close();
});

await step("the arrow keys read values, and Escape ends", async () => {
  const { page, close } = await open("demo");
  for (const id of ["slo", "spread", "usage", "held-up"]) {
    const plot = page.locator(`#${id} .plot`).first();
    await plot.focus();
    await page.keyboard.press("ArrowRight");
    const first = await plot.getByRole("status").textContent();
    await page.keyboard.press("ArrowRight");
    const second = await plot.getByRole("status").textContent();
    assert.ok(first.length > 10 && second.length > 10 && first !== second, `${id}: ${first}, ${second}`);
    await page.keyboard.press("End");
    await page.keyboard.press("Escape");
    assert.equal(await plot.locator(".tip").isVisible(), false);
  }
  await close();
});

await step("dark, and a phone, and print", async () => {
  const dark = await open("demo", { colorScheme: "dark" });
  const paper = await dark.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(paper, "rgb(20, 24, 28)");
  await dark.page.screenshot({ path: `${shots}/dark.png`, fullPage: true });
  for (const section of await dark.page.locator("section").all()) {
    await section.screenshot({ path: `${shots}/dark-${await section.getAttribute("id")}.png` });
  }
  // Print is on white, also from a dark screen.
  await dark.page.emulateMedia({ media: "print", colorScheme: "dark" });
  assert.equal(await dark.page.evaluate(() => getComputedStyle(document.body).backgroundColor), "rgb(255, 255, 255)");
  await dark.close();
  const phone = await open("demo", { viewport: { width: 375, height: 812 }, deviceScaleFactor: 2 });
  assert.equal(await phone.page.evaluate(() => document.documentElement.scrollWidth), 375);
  await phone.page.screenshot({ path: `${shots}/phone.png` });
  for (const id of ["slo", "spread", "time", "usage", "held-up", "compared"]) {
    await phone.page.locator(`#${id}`).evaluate((section) => section.scrollIntoView());
    await phone.page.screenshot({ path: `${shots}/phone-${id}.png` });
  }
  await phone.close();
  const print = await open("demo");
  await print.page.pdf({ path: `${shots}/print.pdf`, preferCSSPageSize: true, printBackground: true });
  await print.close();
});

await step("without a script the page is whole", async () => {
  const { page, close } = await open("demo", { javaScriptEnabled: false });
  assert.equal(await page.locator("figure.chart:visible").count(), 8 + 6 + results.policies.length + 1);
  assert.equal(await page.locator("button").count(), 0);
  const rows = results.policies.reduce((sum, policy) => sum + policy.by_slo_scale.length, 0);
  assert.equal(await page.locator("#all-scores tbody tr:visible").count(), rows);
  await page.screenshot({ path: `${shots}/no-script.png`, fullPage: true });
  await close();
});

await step("a hostile name is shown, and nothing of it runs", async () => {
  const { page, close } = await open("hostile");
  assert.ok((await page.locator("#policies").textContent()).includes("</script><script>alert(1)</script>"));
  assert.equal(await page.locator("script").count(), 2 + await page.locator(".plot").count());
  await close();
});

await step("every control has a name, and every drawing says what it shows", async () => {
  const { page, close } = await open("demo");
  const nameless = await page.evaluate(() => [
    ...[...document.querySelectorAll("button")].filter((button) => button.textContent.trim() === ""),
    ...[...document.querySelectorAll(".plot svg")].filter((svg) => (svg.getAttribute("aria-label") ?? "").length < 20),
    ...[...document.querySelectorAll("table")].filter((table) => !table.caption?.textContent),
    ...[...document.querySelectorAll("[id]")].filter((one) => document.querySelectorAll(`[id="${one.id}"]`).length > 1),
  ].map((element) => element.outerHTML.slice(0, 80)));
  assert.deepEqual(nameless, []);
  await close();
});

await browser.close();
console.log(`screenshots: ${shots}`);
