// Write a picture and a report of each dashboard: `node shoot.mjs CHROMIUM PAGE_URL FOLDER JOBS_AS_JSON`.
// A job is {name, uid, theme, query}; `name`.png and `name`.json are written.
import fs from 'node:fs';
import { chromium } from 'playwright-core';
import UPNG from 'upng-js';

const WIDTH = 1600;
const HEIGHT_MAX = 6000;
const DRAWN_MS = 240_000;
const COLOURS = 96; // a palette makes the files smaller; with 32 two lines had one colour

const [binary, url, folder, jobs] = process.argv.slice(2);
fs.mkdirSync(folder, { recursive: true });
const browser = await chromium.launch({ executablePath: binary, args: ['--no-sandbox', '--disable-gpu'] });
for (const job of JSON.parse(jobs)) {
  const page = await browser.newPage({ viewport: { width: WIDTH, height: HEIGHT_MAX } });
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error.stack).slice(0, 600)));
  await page.goto(`${url}/?uid=${job.uid}&theme=${job.theme}${job.query ?? ''}`);
  await page.waitForFunction(() => window.__report?.drawn, null, { timeout: DRAWN_MS });
  const report = await page.evaluate(() => ({ ...window.__report, height: window.__measure() }));
  const clip = { x: 0, y: 0, width: WIDTH, height: Math.min(report.height, HEIGHT_MAX) };
  const shot = UPNG.decode(await page.screenshot({ clip }));
  const png = UPNG.encode(UPNG.toRGBA8(shot), shot.width, shot.height, COLOURS);
  fs.writeFileSync(`${folder}/${job.name}.png`, Buffer.from(png));
  fs.writeFileSync(`${folder}/${job.name}.json`, JSON.stringify({ ...job, ...report, errors }, null, 1));
  await page.close();
}
await browser.close();
