import hooks from 'eslint-plugin-react-hooks';
import tseslint from 'typescript-eslint';

const untranslated = 'What people read goes through the translator.';
/** Where a text would be shown that the translator has not seen. */
const SHOWN = [
  'JSXText[value=/[A-Za-z]/]',
  'JSXElement > JSXExpressionContainer Literal[value=/[A-Za-z]/]:not(CallExpression Literal):not(JSXAttribute Literal):not(BinaryExpression Literal)',
  'JSXElement > JSXExpressionContainer TemplateElement[value.raw=/[A-Za-z]/]:not(CallExpression *):not(JSXAttribute *)',
  'JSXAttribute[name.name=/^(alt|aria-label|label|placeholder|title)$/] > Literal',
  'JSXAttribute[name.name=/^(alt|aria-label|label|placeholder|title)$/] TemplateElement[value.raw=/[A-Za-z]/]',
  'Property[key.name=/^(body|caption|label|title)$/] > Literal',
  'AssignmentExpression[left.property.name=/^(caption|label|placeholder|textContent)$/] > Literal'
];

export default tseslint.config(
  { ignores: ['lib/', 'node_modules/', '*.config.js', 'style/*.js'] },
  tseslint.configs.strictTypeChecked,
  hooks.configs.flat['recommended-latest'],
  {
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      eqeqeq: 'error',
      'no-console': 'error',
      'no-restricted-syntax': [
        'error',
        ...SHOWN.map(selector => ({ selector, message: untranslated }))
      ],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }]
    }
  },
  {
    // Node's runner waits for its tests by itself.
    files: ['tests/**'],
    rules: { '@typescript-eslint/no-floating-promises': 'off' }
  }
);
