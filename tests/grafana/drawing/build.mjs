// Bundle the page: `node build.mjs`, beside node_modules; writes dist/.
import fs from 'node:fs';
import esbuild from 'esbuild';

await esbuild.build({
  entryPoints: ['src/main.tsx'],
  bundle: true,
  outdir: 'dist',
  format: 'esm',
  minify: true,
  jsx: 'automatic',
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  loader: { '.svg': 'dataurl', '.woff': 'dataurl', '.woff2': 'dataurl', '.png': 'dataurl' },
  logLevel: 'error',
});
fs.writeFileSync(
  'dist/index.html',
  '<!doctype html><meta charset=utf-8><link rel=stylesheet href=main.css>' +
    '<body style="margin:0"><div id=root></div><script type=module src=main.js></script>',
);
