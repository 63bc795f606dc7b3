import hooks from 'eslint-plugin-react-hooks';
import tseslint from 'typescript-eslint';

const untranslated = 'Visible texts must be translated.';
/** Selectors of visible texts that are not translated. */
const UNTRANSLATED_TEXTS = [
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
      // Concerns the React compiler, which is not used.
      'react-hooks/incompatible-library': 'off',
      'no-console': 'error',
      'no-restricted-syntax': [
        'error',
        ...UNTRANSLATED_TEXTS.map(selector => ({ selector, message: untranslated }))
      ],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }]
    }
  },
  {
    // Node's test runner awaits its tests.
    files: ['tests/**'],
    rules: { '@typescript-eslint/no-floating-promises': 'off' }
  }
);
