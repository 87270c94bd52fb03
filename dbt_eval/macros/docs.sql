{#- One statement for all columns; dbt's own asks the database for the columns once a column. -#}
{% macro duckdb__alter_column_comment(relation, column_dict) %}
  {% for column_name in column_dict %}
    comment on column {{ relation }}.{{ column_name }} is {{ duckdb_escape_comment(column_dict[column_name]['description']) }};
  {% endfor %}
{% endmacro %}
