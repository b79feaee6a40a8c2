-- Staff records: dates in primary keys, CHAR keys.
CREATE TABLE employees (emp_no int NOT NULL, birth_date date NOT NULL, first_name varchar(14) NOT NULL, last_name varchar(16) NOT NULL, gender enum('M','F') NOT NULL, hire_date date NOT NULL, PRIMARY KEY (emp_no));
CREATE TABLE departments (dept_no char(4) NOT NULL, dept_name varchar(40) NOT NULL, PRIMARY KEY (dept_no), UNIQUE KEY dept_name (dept_name));
CREATE TABLE salaries (emp_no int NOT NULL, salary int NOT NULL, from_date date NOT NULL, to_date date NOT NULL, PRIMARY KEY (emp_no, from_date));
CREATE TABLE titles (emp_no int NOT NULL, title varchar(50) NOT NULL, from_date date NOT NULL, to_date date DEFAULT NULL, PRIMARY KEY (emp_no, title, from_date));
INSERT INTO employees VALUES (10001, '1953-09-02', 'Georgi', 'Facello', 'M', '1986-06-26'), (-1, '1000-01-01', '', 'Ünal', 'F', '9999-12-31');
INSERT INTO departments VALUES ('d001', 'Marketing'), ('d1', 'R&D');
INSERT INTO salaries VALUES (10001, 60117, '1986-06-26', '1987-06-26'), (10001, 62102, '1987-06-26', '9999-01-01');
INSERT INTO titles VALUES (10001, 'Senior Engineer, Staff', '1986-06-26', NULL), (10001, '50% Manager', '1990-01-01', '9999-01-01');
