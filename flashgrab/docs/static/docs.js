// Buttons that copy, the true address in the snippets, and Swagger UI over our own document.
'use strict';
for (const button of document.querySelectorAll('button.copy')) {
  button.hidden = false;
  button.addEventListener('click', async () => {
    const text = document.getElementById(button.dataset.copies).textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = 'Copied';
    } catch {
      button.textContent = 'Not allowed: mark and copy';
    }
    setTimeout(() => { button.textContent = 'Copy'; }, 2000);
  });
}
// Behind a proxy that ends TLS the service knows the host but not the scheme.
const told = document.querySelector('[data-origin]')?.dataset.origin;
if (told && told !== location.origin) {
  for (const block of document.querySelectorAll('.snippet pre')) {
    block.textContent = block.textContent.replaceAll(told, location.origin);
  }
}
const place = document.getElementById('swagger-ui');
if (place && window.SwaggerUIBundle) {
  window.SwaggerUIBundle({
    url: '/openapi.json',
    dom_id: '#swagger-ui',
    deepLinking: false,
    validatorUrl: null, // else it would ask a host outside
    syntaxHighlight: { activated: false },
    docExpansion: 'list',
    defaultModelsExpandDepth: 0,
  });
}
